// The verbs of vmctl(8): requests to the daemon, and what is printed of its
// replies: messages to standard error, tables and JSON to standard output.
#include <cerrno>
#include <cstdio>
#include <ctime>
#include <fcntl.h>
#include <unistd.h>

#include "cli/asking.h"
#include "cli/console.h"
#include "cli/metrics.h"
#include "cli/new_vm.h"

namespace vmhost::cli {

using nlohmann::json;

namespace {

// vmctl(8)'s table: widths 5 5 5 7 7 7 12 8, right-aligned, then the name.
void print_row(const std::string& id, const std::string& pid, const std::string& vcpus,
               const std::string& maximum, const std::string& current, const std::string& tty,
               const std::string& owner, const std::string& state, const std::string& name) {
    std::fputs(fmt::format("{:>5} {:>5} {:>5} {:>7} {:>7} {:>7} {:>12} {:>8} {}\n", id, pid, vcpus,
                           maximum, current, tty, owner, state, name)
                   .c_str(),
               stdout);
}

std::string clock_time(std::int64_t time_s) {
    std::time_t time = time_s;
    std::tm parts{};
    char text[32] = {};
    if (::localtime_r(&time, &parts) != nullptr)
        std::strftime(text, sizeof(text), "%Y-%m-%d %H:%M:%S", &parts);
    return text;
}

// How far a VM's installation is, below its row.
void print_install(const json& install) {
    std::printf("installation %u%s:\n", install.at("number").get<unsigned>(),
                install.at("mode") == "upgrade" ? ", an upgrade" : "");
    for (const auto& one : install.at("phases")) {
        const auto phase = one.at("phase").get<std::string>();
        std::string more;
        if (phase == "sets" && install.at("percent").is_number())
            more = fmt::format(" {}%", install["percent"].get<unsigned>());
        if (phase == "sets")
            more += " " + printable(install.at("set").get<std::string>(), 64);
        std::printf("  %s %s%s\n", clock_time(one.at("since_s").get<std::int64_t>()).c_str(),
                    phase.c_str(), more.c_str());
    }
    if (const auto failed = install.at("failed").get<std::string>(); !failed.empty())
        std::printf("  failed: %s\n", printable(failed, 200).c_str());
    if (install.at("stalled") == true)
        std::puts("  it does not go on");
}

// As vmd counts: a paused VM is a running one.
bool runs(const json& row) {
    return row["state"] == "running" || row["state"] == "paused";
}

int status(control::Client& client, const Command& command) {
    auto reply = ask(client, {{"verb", "status"}, {"vm", command.vm}, {"counters", command.json}});
    if (!reply)
        return complain(reply.error());
    auto rows = json::array();
    for (auto& row : (*reply)["vms"])
        if (!command.running_only || runs(row))
            rows.push_back(std::move(row));
    if (command.json) {
        std::printf("%s\n", rows.dump(2, ' ', false, json::error_handler_t::replace).c_str());
        return 0;
    }
    print_row("ID", "PID", "VCPUS", "MAXMEM", "CURMEM", "TTY", "OWNER", "STATE", "NAME");
    for (const auto& row : rows) {
        bool running = row["pid"].is_number();
        print_row(std::to_string(row["id"].get<unsigned>()),
                  running ? std::to_string(row["pid"].get<unsigned>()) : "-",
                  std::to_string(row["vcpus"].get<unsigned>()),
                  format_size(row["max_memory_bytes"].get<std::uint64_t>()),
                  running ? format_size(row["current_memory_bytes"].get<std::uint64_t>()) : "-",
                  "-", row["owner"].get<std::string>().substr(0, 15), row["state"], row["name"]);
    }
    if (!command.vm.empty() && rows.size() == 1 && rows[0].value("install", json()).is_object())
        print_install(rows[0]["install"]);
    return rows.empty() ? 1 : 0; // as vmctl(8): nothing is there to be listed
}

int console(control::Client& client, const Command& command) {
    auto answer = client.request(compact({{"verb", "console"},
                                          {"vm", command.vm},
                                          {"read_only", command.read_only},
                                          {"port", command.port}}));
    if (!answer)
        return complain(answer.error());
    if (!answer->fd)
        return complain(Error(ErrorKind::not_found, "console not found"));
    return attach_console(std::move(*answer->fd), command.read_only);
}

// A request with files: each name of "descriptors" with the path that it is opened from.
Result<json> ask_with_files(control::Client& client, json request,
                            const std::vector<std::pair<const char*, std::string>>& files) {
    std::vector<Fd> fds;
    auto names = json::array();
    for (const auto& [name, path] : files) {
        fds.push_back(TRY(open_for_daemon(path, O_RDONLY)));
        names.push_back(name);
    }
    if (!fds.empty())
        request["descriptors"] = std::move(names);
    return json::parse(TRY(client.request(compact(request), {}, std::move(fds))).json, nullptr,
                       false);
}

int memory(control::Client& client, const Command& command) {
    auto reply = ask(client, {{"verb", "memory"}, {"vm", command.vm}, {"bytes", command.bytes}});
    if (!reply)
        return complain(std::move(reply).error().in("memory command failed"));
    std::fprintf(stderr, "vmctl: asked vm %u to keep %s\n", (*reply)["id"].get<unsigned>(),
                 format_size(command.bytes).c_str());
    return 0;
}

int cdrom(control::Client& client, const Command& command) {
    std::vector<std::pair<const char*, std::string>> files;
    if (command.iso != "eject")
        files.emplace_back("cdrom", command.iso);
    auto reply = ask_with_files(
        client, {{"verb", "cdrom"}, {"vm", command.vm}, {"force", command.force}}, files);
    if (!reply)
        return complain(std::move(reply).error().in("cdrom command failed"));
    std::fprintf(stderr, "vmctl: %s vm %u\n",
                 files.empty() ? "ejected the CD-ROM of" : "changed the CD-ROM of",
                 (*reply)["id"].get<unsigned>());
    return 0;
}

Result<json> ask_to_start(control::Client& client, const Command& command) {
    if (describes_vm(command))
        return json::parse(TRY(start_new_vm(client, command)).json, nullptr, false);
    std::vector<std::pair<const char*, std::string>> files;
    if (!command.kernel.empty())
        files.emplace_back("kernel", command.kernel);
    if (!command.iso.empty())
        files.emplace_back("cdrom", command.iso);
    return ask_with_files(client,
                          {{"verb", "start"},
                           {"vm", command.vm},
                           {"boot_device", command.boot_device},
                           {"snapshot", command.snapshot},
                           {"kernel_name", command.kernel}},
                          files);
}

int start(control::Client& client, const Command& command) {
    auto reply = ask_to_start(client, command);
    if (!reply)
        return complain(std::move(reply).error().in("start vm command failed"));
    if (command.attach)
        return console(client, command);
    std::fprintf(stderr, "vmctl: started vm %u successfully\n", (*reply)["id"].get<unsigned>());
    return 0;
}

// pause and unpause.
int hold(control::Client& client, const Command& command, const char* verb) {
    auto reply = ask(client, {{"verb", verb}, {"vm", command.vm}});
    if (!reply)
        return complain(std::move(reply).error().in(fmt::format("{} vm command failed", verb)));
    std::fprintf(stderr, "vmctl: %sd vm %u successfully\n", verb, (*reply)["id"].get<unsigned>());
    return 0;
}

// send and receive: the daemon gets our standard output or input.
int move_state(control::Client& client, const Command& command, bool out) {
    const char* verb = out ? "send" : "receive";
    const int ours = out ? STDOUT_FILENO : STDIN_FILENO;
    if (::isatty(ours))
        return complain(Error(ErrorKind::invalid,
                              fmt::format("{}: standard {} is a terminal; a state belongs into a "
                                          "file or a pipe",
                                          verb, out ? "output" : "input")));
    std::vector<Fd> fds;
    fds.emplace_back(::fcntl(ours, F_DUPFD_CLOEXEC, 0));
    if (!fds.back())
        return complain(Error::system(errno, fmt::format("{}: duplicate a descriptor", verb)));
    auto answer = client.request(
        compact({{"verb", verb}, {"vm", command.vm}, {"descriptors", json::array({"state"})}}), {},
        std::move(fds));
    if (!answer)
        return complain(std::move(answer).error().in(fmt::format("{} vm command failed", verb)));
    auto reply = json::parse(answer->json, nullptr, false);
    std::fprintf(stderr, "vmctl: %s vm %u successfully\n", out ? "sent" : "received",
                 reply["id"].get<unsigned>());
    return 0;
}

int list_snapshots(const json& snapshots) {
    if (snapshots.empty())
        return 0;
    std::fputs(fmt::format("{:<19} {:>7} {}\n", "MADE", "STATE", "NAME").c_str(), stdout);
    for (const auto& one : snapshots) {
        const std::time_t time = one["time"].get<std::int64_t>();
        struct tm parts {};
        char text[32] = "?";
        if (::localtime_r(&time, &parts) != nullptr)
            (void)std::strftime(text, sizeof text, "%Y-%m-%d %H:%M:%S", &parts);
        std::fputs(fmt::format("{:<19} {:>7} {}\n", text,
                               format_size(one["state_bytes"].get<std::uint64_t>()),
                               one["name"].get<std::string>())
                       .c_str(),
                   stdout);
    }
    return 0;
}

int snapshot(control::Client& client, const Command& command) {
    auto reply = ask(client, {{"verb", "snapshot"},
                              {"vm", command.vm},
                              {"snapshot", command.snapshot},
                              {"remove", command.remove}});
    if (!reply)
        return complain(std::move(reply).error().in("snapshot command failed"));
    if (command.snapshot.empty())
        return list_snapshots((*reply)["snapshots"]);
    std::fprintf(stderr, "vmctl: %s snapshot %s of vm %u\n", command.remove ? "removed" : "made",
                 command.snapshot.c_str(), (*reply)["id"].get<unsigned>());
    return 0;
}

int reset(control::Client& client, const Command& command) {
    auto reply = ask(client, {{"verb", "reset"}, {"what", command.reset}});
    return reply ? 0 : complain(std::move(reply).error().in("reset command failed"));
}

int wait(control::Client& client, const Command& command) {
    std::fputs(is_number(command.vm) ? "waiting for vm: "
                                     : fmt::format("waiting for vm {}: ", command.vm).c_str(),
               stderr);
    auto reply = ask(client, {{"verb", "wait"}, {"vm", command.vm}});
    if (!reply) {
        std::fprintf(stderr, "%s\n", reply.error().message().c_str());
        return 1;
    }
    std::fprintf(stderr, "terminated vm %u\n", (*reply)["id"].get<unsigned>());
    return 0;
}

} // namespace

int run_vmctl(const Command& command) {
    auto client = control::Client::connect(command.socket);
    if (!client)
        return complain(client.error());
    switch (command.verb) {
    case Command::Verb::status:
        return status(*client, command);
    case Command::Verb::start:
        return start(*client, command);
    case Command::Verb::stop:
        return run_stop(*client, command);
    case Command::Verb::top:
        return run_top(*client, command);
    case Command::Verb::events:
        return run_events(*client, command);
    case Command::Verb::log:
        return run_log(*client, command);
    case Command::Verb::reset:
        return reset(*client, command);
    case Command::Verb::pause:
        return hold(*client, command, "pause");
    case Command::Verb::unpause:
        return hold(*client, command, "unpause");
    case Command::Verb::send:
        return move_state(*client, command, true);
    case Command::Verb::receive:
        return move_state(*client, command, false);
    case Command::Verb::snapshot:
        return snapshot(*client, command);
    case Command::Verb::wait:
        return wait(*client, command);
    case Command::Verb::memory:
        return memory(*client, command);
    case Command::Verb::metrics:
        if (auto printed = print_metrics(*client, command); !printed)
            return complain(std::move(printed).error().in("metrics command failed"));
        return 0;
    case Command::Verb::cdrom:
        return cdrom(*client, command);
    case Command::Verb::console:
        return console(*client, command);
    default:
        return 1;
    }
}

} // namespace vmhost::cli
