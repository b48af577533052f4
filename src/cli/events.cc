// vmctl events: what happened on the host; and vmctl log: what a guest said on its console, or how
// much the daemon says.
#include <algorithm>
#include <cctype>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <ctime>
#include <sys/stat.h>
#include <thread>
#include <unistd.h>

#include "cli/asking.h"
#include "machine/console/frames.h"

namespace vmhost::cli {

using nlohmann::json;
using namespace std::chrono_literals;

namespace {

std::string time_text(std::int64_t time_us) {
    const std::time_t time = time_us / 1'000'000;
    struct tm parts {};
    char text[32] = "?";
    if (::localtime_r(&time, &parts) != nullptr)
        (void)std::strftime(text, sizeof text, "%Y-%m-%d %H:%M:%S", &parts);
    return text;
}

void print_events(const std::string& reply, bool as_json) {
    auto object = json::parse(reply, nullptr, false);
    if (!object.is_object() || !object.contains("events"))
        return;
    for (const auto& event : object["events"]) {
        if (as_json) {
            std::printf("%s\n", compact(event).c_str());
            continue;
        }
        auto vm = event.value("vm", std::string()), text = event.value("text", std::string());
        std::printf("%s %-16s %s%s%s\n", time_text(event.value("time_us", std::int64_t{})).c_str(),
                    vm.empty() ? "-" : vm.c_str(), event.value("kind", std::string()).c_str(),
                    text.empty() ? "" : ": ", text.c_str());
    }
    std::fflush(stdout);
}

// What a guest has said, to standard output: as it is, or on a terminal without what would be
// orders to that terminal.
class Output {
public:
    // false = nobody reads it any more.
    bool put(Bytes bytes) {
        if (terminal_) {
            std::string plain;
            for (auto byte : bytes)
                put_plain(byte, plain);
            (void)std::fwrite(plain.data(), 1, plain.size(), stdout);
        } else {
            (void)std::fwrite(bytes.data(), 1, bytes.size(), stdout);
        }
        return std::fflush(stdout) == 0;
    }

private:
    // UTF-8 passes, but for the control characters U+0080 to U+009F, which begin with 0xc2.
    void put_plain(std::uint8_t byte, std::string& out) {
        if (std::exchange(held_, false))
            out += byte >= 0x80 && byte < 0xa0 ? "?" : "\xc2";
        else if (byte == 0xc2) {
            held_ = true;
            return;
        }
        if (byte == '\n' || byte == '\t' || (byte >= 0x20 && byte != 0x7f))
            out += static_cast<char>(byte);
        else if (byte != '\r')
            out += {'^', static_cast<char>(byte ^ 0x40)};
    }
    bool terminal_ = ::isatty(STDOUT_FILENO) != 0;
    bool held_ = false; // a 0xc2
};

struct LogFile {
    Fd file;
    ino_t inode = 0;
};
struct LogFiles {
    bool kept = false;
    std::vector<LogFile> files; // oldest first
};

Result<LogFiles> ask_for_files(control::Client& client, const Command& command) {
    LogFiles found;
    auto last = TRY(client.request(
        compact({{"verb", "console_log"}, {"vm", command.vm}, {"port", command.port}}),
        [&](control::Client::Answer reply) {
            if (reply.fd)
                found.files.push_back({std::move(*reply.fd), 0});
        }));
    for (auto& one : found.files) {
        struct stat about {};
        if (::fstat(one.file.get(), &about) < 0)
            return fail_errno(errno, "log: look at a file");
        one.inode = about.st_ino;
    }
    found.kept = json::parse(last.json, nullptr, false).value("kept", false);
    return found;
}

// From position to the end of what is there now.
Result<bool> copy_file(const LogFile& from, std::uint64_t& position, Output& output) {
    std::vector<std::uint8_t> buffer(64 << 10);
    while (from.file) { // else none is there yet
        auto count =
            ::pread(from.file.get(), buffer.data(), buffer.size(), static_cast<off_t>(position));
        if (count < 0 && errno == EINTR)
            continue;
        if (count < 0)
            return fail_errno(errno, "log: read");
        if (count == 0)
            return true;
        position += static_cast<std::uint64_t>(count);
        if (!output.put(Bytes(buffer).first(static_cast<std::size_t>(count))))
            return false;
    }
    return true;
}

// The newest file for as long as anybody reads; when another has taken its name, what is left of
// it and then those that came after it.
Result<void> follow_files(control::Client& client, const Command& command, LogFile current,
                          std::uint64_t position, Output& output) {
    constexpr unsigned looks_per_question = 5; // the daemon has other work too
    for (unsigned silent = 0;;) {
        std::this_thread::sleep_for(200ms);
        const auto before = position;
        if (!TRY(copy_file(current, position, output)))
            return {};
        silent = position == before ? silent + 1 : 0;
        if (silent % looks_per_question != looks_per_question - 1)
            continue;
        auto now = TRY(ask_for_files(client, command)).files;
        auto next = std::ranges::find(now, current.inode, &LogFile::inode);
        next = next == now.end() ? now.begin() : next + 1; // gone: then all are newer
        if (next != now.end() && !TRY(copy_file(current, position, output)))
            return {}; // what came between our last look and the change of names
        for (; next != now.end(); ++next) {
            current = std::move(*next);
            position = 0;
            if (!TRY(copy_file(current, position, output)))
                return {};
        }
    }
}

// The console itself: what it keeps, then what comes, until the guest has ended.
Result<void> follow_console(control::Client& client, const Command& command, Output& output) {
    auto answer = TRY(client.request(compact(
        {{"verb", "console"}, {"vm", command.vm}, {"read_only", true}, {"port", command.port}})));
    if (!answer.fd)
        return fail(ErrorKind::not_found, "console not found");
    machine::ConsoleFrameReader reader;
    std::vector<std::uint8_t> buffer(16 << 10);
    bool open = true;
    while (open) {
        auto count = ::read(answer.fd->get(), buffer.data(), buffer.size());
        if (count < 0 && errno == EINTR)
            continue;
        if (count <= 0)
            return {};
        auto took = [&](machine::ConsoleFrame kind, Bytes data) {
            if (kind == machine::ConsoleFrame::data)
                open = open && output.put(data);
            else if (kind == machine::ConsoleFrame::notice)
                std::fprintf(stderr, "vmctl: %s\n", printable(as_text(data), 400).c_str());
            else if (kind == machine::ConsoleFrame::ended || kind == machine::ConsoleFrame::closed)
                open = false;
        };
        if (!reader.feed(Bytes(buffer).first(static_cast<std::size_t>(count)), took))
            return fail(ErrorKind::corrupt, "the console broke its protocol");
    }
    return {};
}

Result<void> show_log(control::Client& client, const Command& command) {
    Output output;
    auto found = TRY(ask_for_files(client, command));
    if (command.follow && !found.kept)
        return follow_console(client, command, output);
    LogFile last;
    std::uint64_t position = 0;
    for (auto& one : found.files) {
        last = std::move(one);
        position = 0;
        if (!TRY(copy_file(last, position, output)))
            return {};
    }
    if (!command.follow)
        return {};
    return follow_files(client, command, std::move(last), position, output);
}

} // namespace

int run_events(control::Client& client, const Command& command) {
    auto answer = client.request(
        compact({{"verb", "events"}, {"vm", command.vm}, {"follow", command.follow}}),
        [&](const control::Client::Answer& reply) { print_events(reply.json, command.json); });
    if (!answer)
        return complain(answer.error());
    print_events(answer->json, command.json);
    return 0;
}

int run_log(control::Client& client, const Command& command) {
    auto word = command.vm;
    for (char& c : word)
        c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
    if (word == "brief" || word == "verbose") {
        auto done = ask(client, {{"verb", "log"}, {"what", word}});
        return done ? 0 : complain(done.error());
    }
    auto shown = show_log(client, command);
    return shown ? 0 : complain(shown.error());
}

} // namespace vmhost::cli
