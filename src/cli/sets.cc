// vmhost sets: OpenBSD's installation sets on this host, without the daemon and with the rights of
// whoever calls. Messages and progress to standard error, what was asked for to standard output.
#include <chrono>
#include <cstdio>
#include <ctime>
#include <nlohmann/json.hpp>
#include <unistd.h>

#include "cli/asking.h"
#include "sets/sets.h"

namespace vmhost::cli {

using nlohmann::json;

namespace {

// Of what is not what was signed; everything else that goes wrong is 1.
constexpr int not_verified = 2;

int complain_of(Error error) {
    const bool forged = error.kind() == ErrorKind::corrupt || error.kind() == ErrorKind::denied;
    complain("vmhost", std::move(error).in("sets"));
    return forged ? not_verified : 1;
}

void print(const json& out) {
    std::puts(out.dump(2, ' ', false, json::error_handler_t::replace).c_str());
}

// One line that is written over on a terminal, and a line for each file elsewhere.
class FetchLine {
public:
    ~FetchLine() { clear(); }
    void file(const std::string& name) {
        clear();
        name_ = name;
        if (!terminal_)
            std::fprintf(stderr, "%s\n", name.c_str());
    }
    void bytes(std::uint64_t have, std::uint64_t all) {
        const auto now = std::chrono::steady_clock::now();
        if (!terminal_ || now - shown_ < std::chrono::milliseconds(200))
            return;
        shown_ = now;
        drawn_ = true;
        std::fprintf(stderr, "\r\x1b[K%s: %u%% of %s", name_.c_str(),
                     static_cast<unsigned>(have / (all / 100 + 1)), format_size(all).c_str());
    }
    void again(const Error& error) {
        clear();
        std::fprintf(stderr, "%s: %s; trying again\n", name_.c_str(), error.message().c_str());
    }

private:
    void clear() {
        if (std::exchange(drawn_, false))
            std::fputs("\r\x1b[K", stderr);
    }
    std::string name_ = std::string(sets::list_name);
    bool terminal_ = ::isatty(STDERR_FILENO) == 1;
    bool drawn_ = false;
    std::chrono::steady_clock::time_point shown_ = std::chrono::steady_clock::now();
};

int fetch(const config::Install& install, const Command& command) {
    sets::FetchOrder order;
    order.version = command.release_version;
    order.arch = command.arch;
    order.mirror = command.mirror.empty() ? install.mirror : command.mirror;
    order.directory = install.sets;
    order.keys = install.signify_keys;
    order.all = command.all;
    Result<sets::Fetched> fetched;
    {
        FetchLine line;
        sets::FetchProgress progress;
        progress.file = [&](const std::string& name) { line.file(name); };
        progress.bytes = [&](std::uint64_t have, std::uint64_t all) { line.bytes(have, all); };
        progress.again = [&](const Error& error) { line.again(error); };
        fetched = sets::fetch_sets(order, progress);
    }
    if (!fetched)
        return complain_of(std::move(fetched).error());
    if (command.json)
        print({{"version", order.version},
               {"arch", order.arch},
               {"key", fetched->key},
               {"files", fetched->files},
               {"bytes", fetched->bytes},
               {"fetched_bytes", fetched->fetched_bytes}});
    else
        std::puts(fmt::format("{}/{}: {} files, {}, {} of it fetched now; signed by {}",
                              order.version, order.arch, fetched->files,
                              format_size(fetched->bytes), format_size(fetched->fetched_bytes),
                              fetched->key)
                      .c_str());
    return 0;
}

std::string date_text(std::int64_t unix_seconds) {
    const time_t seconds = unix_seconds;
    tm parts{};
    char text[32];
    ::gmtime_r(&seconds, &parts);
    return {text, std::strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%SZ", &parts)};
}

int list(const config::Install& install, const Command& command) {
    auto found = sets::list_sets(install.sets);
    if (!found)
        return complain_of(std::move(found).error());
    json out = json::array();
    for (const auto& one : *found)
        out.push_back({{"version", one.version},
                       {"arch", one.arch},
                       {"verified_s", one.record ? json(one.record->time_s) : json()},
                       {"key", one.record ? json(printable(one.record->key)) : json()},
                       {"files", one.files},
                       {"bytes", one.bytes}});
    if (command.json) {
        print(out);
        return 0;
    }
    std::puts("VERSION    ARCH      VERIFIED              FILES   SIZE");
    for (const auto& one : *found)
        std::puts(fmt::format("{:<10} {:<9} {:<21} {:>5} {:>6}", one.version, one.arch,
                              one.record ? date_text(one.record->time_s) : "never", one.files,
                              format_size(one.bytes))
                      .c_str());
    return 0;
}

// One of them, or all; the exit status is that of the worst.
int verify(const config::Install& install, const Command& command) {
    auto found = sets::list_sets(install.sets);
    if (!found)
        return complain_of(std::move(found).error());
    std::erase_if(*found, [&](const sets::SetDirectory& one) {
        return (!command.release_version.empty() && one.version != command.release_version) ||
               (!command.arch.empty() && one.arch != command.arch);
    });
    if (found->empty() && !command.release_version.empty())
        return complain_of(Error(ErrorKind::not_found, "there are no such sets"));
    int status = 0;
    json out = json::array();
    for (const auto& one : *found) {
        const auto name = one.version + "/" + one.arch;
        Result<sets::Verified> verified;
        {
            FetchLine line;
            line.file(name);
            std::uint64_t done = 0;
            verified =
                sets::verify_sets(install.sets, one.version, one.arch, install.signify_keys,
                                  [&](std::uint64_t more) { line.bytes(done += more, one.bytes); });
        }
        if (!verified) {
            status = std::max(status, complain_of(std::move(verified).error()));
            continue;
        }
        if (!verified->good())
            status = not_verified;
        out.push_back({{"version", one.version},
                       {"arch", one.arch},
                       {"good", verified->good()},
                       {"key", verified->key},
                       {"files", verified->files},
                       {"bytes", verified->bytes},
                       {"bad", verified->bad},
                       {"missing", verified->missing}});
        if (command.json)
            continue;
        for (const auto& bad : verified->bad)
            std::puts(fmt::format("{}/{}: its SHA256 is another", name, bad).c_str());
        for (const auto& missing : verified->missing)
            std::puts(fmt::format("{}/{}: it is missing", name, missing).c_str());
        std::puts(fmt::format("{}: {}, {} files, {}; signed by {}", name,
                              verified->good() ? "good" : "not good", verified->files,
                              format_size(verified->bytes), verified->key)
                      .c_str());
    }
    if (command.json)
        print(out);
    return status;
}

} // namespace

int run_sets(const Command& command) {
    auto model = load_config(command);
    if (!model)
        return 1;
    const auto& install = model->install;
    if (install.sets.empty())
        return complain("vmhost", Error(ErrorKind::invalid,
                                        "sets: the file names no directory for them: give "
                                        "[install] \"sets\""));
    switch (command.verb) {
    case Command::Verb::sets_fetch:
        return fetch(install, command);
    case Command::Verb::sets_list:
        return list(install, command);
    default:
        return verify(install, command);
    }
}

} // namespace vmhost::cli
