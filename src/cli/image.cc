// vmctl create and vmhost image: files of this host, without the daemon and with the rights of
// whoever calls. Messages to standard error; what was asked for to standard output.
#include <chrono>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <unistd.h>

#include "cli/asking.h"
#include "disk/disk.h"

namespace vmhost::cli {

using nlohmann::json;

namespace {

constexpr const char* create_usage = "usage:\tvmctl create [-b base | -i disk] [-s size] disk\n";

// Per cent on a terminal, once a job takes longer than people notice.
class ProgressLine {
public:
    explicit ProgressLine(const char* program) : program_(program) {}
    ~ProgressLine() {
        if (shown_ >= 0)
            std::fputs("\r\x1b[K", stderr);
    }
    void operator()(std::uint64_t done, std::uint64_t all) {
        if (!terminal_ || std::chrono::steady_clock::now() - start_ < std::chrono::seconds(1))
            return;
        auto percent = static_cast<int>(done / (all / 100 + 1));
        if (percent != shown_)
            std::fprintf(stderr, "\r%s: %d%% of %s", program_, shown_ = percent,
                         format_size(all).c_str());
    }

private:
    const char* program_;
    bool terminal_ = ::isatty(STDERR_FILENO) == 1;
    int shown_ = -1;
    std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

// vmctl(8)'s rule: at least 1 MiB, in whole MiB.
Result<std::uint64_t> whole_size(const std::string& text) {
    auto bytes = TRY(parse_size(text));
    if (bytes < limits::min_disk_bytes)
        return fail(ErrorKind::invalid, "a size of {}: at least {} is possible", format_size(bytes),
                    format_size(limits::min_disk_bytes));
    if (bytes % MiB != 0) {
        bytes -= bytes % MiB;
        std::fprintf(stderr, "vmctl: size rounded to %s\n", format_size(bytes).c_str());
    }
    return bytes;
}

Result<void> create_empty(const disk::ImageName& target, const Command& command) {
    return disk::create_image(target.path, target.format, TRY(whole_size(command.size)));
}

Result<void> create_on_base(const disk::ImageName& target, const Command& command) {
    if (target.format != disk::Format::qcow2)
        return fail(ErrorKind::invalid, "image {}: only a qcow2 image can have a base",
                    target.path);
    auto base = TRY(disk::decide_format(command.base, target.path));
    // What a raw one begins with, its last user decided: somebody must say that it is raw.
    bool said = base.path != command.base || disk::format_of_name(base.path);
    if (base.format != disk::Format::qcow2 && !said)
        return fail(ErrorKind::invalid, "base {} is not qcow2; if it is raw, call it raw:{}",
                    base.path, base.path);
    std::optional<std::uint64_t> size;
    if (!command.size.empty())
        size = TRY(parse_size(command.size));
    TRY(disk::create_overlay(target.path, base, size));
    return {};
}

Result<void> create_copy(const disk::ImageName& target, const Command& command) {
    auto source = TRY(disk::decide_format(command.source));
    std::optional<std::uint64_t> wanted;
    if (!command.size.empty())
        wanted = TRY(whole_size(command.size));
    std::uint64_t source_bytes = 0;
    Result<std::uint64_t> made = 0;
    {
        ProgressLine line("vmctl");
        made = disk::convert(source, target.path, target.format, wanted,
                             [&](std::uint64_t done, std::uint64_t all) {
                                 source_bytes = all;
                                 line(done, all);
                             });
    }
    auto size = TRY(std::move(made));
    if (size > std::max(wanted.value_or(0), source_bytes))
        std::fprintf(stderr, "vmctl: size rounded up to %s\n", format_size(size).c_str());
    return {};
}

int create(const Command& command) {
    bool copy = !command.source.empty(), base = !command.base.empty();
    if (!copy && !base && command.size.empty()) {
        std::fprintf(stderr, "vmctl: missing size argument\n%s", create_usage);
        return 1;
    }
    auto target = disk::decide_format(command.target);
    if (!target)
        return complain("vmctl", target.error());
    auto done = copy   ? create_copy(*target, command)
                : base ? create_on_base(*target, command)
                       : create_empty(*target, command);
    if (!done)
        return complain("vmctl", done.error());
    std::fprintf(stderr, "vmctl: %s imagefile created\n",
                 std::string(disk::name_of(target->format)).c_str());
    return 0;
}

int check(const Command& command) {
    auto image = disk::decide_format(command.image);
    if (!image)
        return complain("vmhost", image.error());
    auto report = disk::check(*image, command.repair);
    if (!report)
        return complain("vmhost", report.error());
    bool sound = report->corruptions == 0 && report->leaks == report->leaks_repaired;
    if (command.json) {
        std::puts(json{{"sound", sound},
                       {"corruptions", report->corruptions},
                       {"leaks", report->leaks},
                       {"leaks_repaired", report->leaks_repaired},
                       {"clusters_in_use", report->clusters_in_use},
                       {"messages", report->messages}}
                      .dump(2, ' ', false, json::error_handler_t::replace)
                      .c_str());
        return sound ? 0 : 1;
    }
    for (const auto& message : report->messages)
        std::fprintf(stderr, "%s\n", message.c_str());
    std::puts(fmt::format("{}: {}, {} damaged, {} leaked{}", image->path,
                          sound ? "sound" : "not sound", report->corruptions, report->leaks,
                          report->leaks_repaired > 0 ? " and given back" : "")
                  .c_str());
    return sound ? 0 : 1;
}

int info(const Command& command) {
    auto image = disk::decide_format(command.image);
    if (!image)
        return complain("vmhost", image.error());
    auto found = disk::inspect(*image);
    if (!found)
        return complain("vmhost", found.error());
    json out{{"format", std::string(disk::name_of(found->format))},
             {"size_bytes", found->size_bytes},
             {"file_bytes", found->file_bytes},
             {"allocated_bytes", found->allocated_bytes}};
    if (found->format == disk::Format::qcow2) {
        out["version"] = found->version;
        out["cluster_bytes"] = found->cluster_bytes;
        out["snapshots"] = found->snapshots;
        if (!found->backing_file.empty())
            out["backing_file"] = printable(found->backing_file, limits::max_backing_name_bytes);
        if (!found->backing_format.empty())
            out["backing_format"] = printable(found->backing_format, 40);
    }
    if (command.json) {
        std::puts(out.dump(2, ' ', false, json::error_handler_t::replace).c_str());
        return 0;
    }
    for (const auto& [key, value] : out.items())
        std::puts(
            fmt::format("{}: {}", key, value.is_string() ? value.get<std::string>() : value.dump())
                .c_str());
    return 0;
}

int compress(const Command& command) {
    auto image = disk::decide_format(command.image);
    if (!image)
        return complain("vmhost", image.error());
    Result<std::uint64_t> made = 0;
    {
        ProgressLine line("vmhost");
        made = disk::compress(*image, command.target, command.level, std::ref(line));
    }
    return made ? 0 : complain("vmhost", made.error());
}

} // namespace

int run_image(const Command& command) {
    switch (command.verb) {
    case Command::Verb::create:
        return create(command);
    case Command::Verb::image_check:
        return check(command);
    case Command::Verb::image_info:
        return info(command);
    default:
        return compress(command);
    }
}

} // namespace vmhost::cli
