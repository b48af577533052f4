#include "host/install_watch.h"

#include <algorithm>

#include <nlohmann/json.hpp>
#include <sys/socket.h>

#include "machine/console/frames.h"

namespace vmhost::host {

using install::Phase;
using nlohmann::json;

namespace {

constexpr auto watch_interval = std::chrono::seconds(2);
constexpr auto typing_time = std::chrono::milliseconds(200);
constexpr std::size_t max_console_bytes_per_look = 64 << 10;
constexpr std::int64_t between_ssh_s = 4;
constexpr std::int64_t between_kept_s = 10; // of how far the sets are
// After it has rebooted: who has no sshd is not asked for ever.
constexpr std::int64_t ssh_patience_s = 3600;
// Nor is a console read for ever on which nothing goes on; what comes by other ways wakes the
// watch.
constexpr std::int64_t look_patience_s = 3600;

std::string text_of(const install::Progress& progress) {
    json since = json::array();
    for (const auto& time : progress.since_s)
        since.push_back(time ? json(*time) : json());
    return json{{"since", since},
                {"failed", progress.failed},
                {"failed_s", progress.failed_s},
                {"set", progress.set},
                {"fetched_bytes", progress.fetched_bytes},
                {"wanted_bytes", progress.wanted_bytes},
                {"stalled", progress.stalled}}
        .dump(-1, ' ', false, json::error_handler_t::replace);
}

// What cannot be read is an installation of which only the seal is known.
install::Progress progress_of(const store::Installation& installation) {
    install::Progress progress;
    auto kept = json::parse(installation.progress, nullptr, false);
    try {
        if (kept.is_object()) {
            const auto& since = kept.at("since");
            for (std::size_t i = 0; i < install::phases && i < since.size(); ++i)
                if (since[i].is_number_integer())
                    progress.since_s[i] = since[i].get<std::int64_t>();
            progress.failed = kept.at("failed").get<std::string>();
            progress.failed_s = kept.at("failed_s").get<std::int64_t>();
            progress.set = kept.at("set").get<std::string>();
            progress.fetched_bytes = kept.at("fetched_bytes").get<std::uint64_t>();
            progress.wanted_bytes = kept.at("wanted_bytes").get<std::uint64_t>();
            progress.stalled = kept.at("stalled").get<bool>();
        }
    } catch (const json::exception&) {
        progress = {};
    }
    if (!progress.since_s[0])
        progress.since_s[0] = installation.armed_s;
    if (installation.sealed_s && !progress.since_s[static_cast<std::size_t>(Phase::answers)])
        progress.since_s[static_cast<std::size_t>(Phase::answers)] = installation.sealed_s;
    for (const auto& time : progress.since_s)
        progress.moved_s = std::max(progress.moved_s, time.value_or(0));
    return progress;
}

// A ready system that only asks what it is to be: it boots once.
bool is_there_already(const Guest& guest) {
    return guest.config().install->system == config::InstallSystem::cloud_init;
}

// Of other installers than OpenBSD's nothing is heard between their answers and the reboot.
bool may_stall(const Guest& guest, const install::Progress& progress) {
    return guest.config().install->system == config::InstallSystem::openbsd ||
           progress.phase() < Phase::answers;
}

} // namespace

InstallWatch::InstallWatch(Loop& loop, Memory& memory, Doors doors)
    : memory_(memory), doors_(std::move(doors)), look_(loop, [this] { look(); }),
      typed_(loop, [this] { typing_.clear(); }) {}

InstallWatch::Watched* InstallWatch::watched(const Guest& guest) const {
    const auto* installation = guest.installation();
    if (installation == nullptr)
        return nullptr;
    auto& one = watched_[guest.id()];
    if (one.number != installation->number) {
        one = {};
        one.number = installation->number;
        one.progress = progress_of(*installation);
    }
    return &one;
}

const install::Progress* InstallWatch::find(const Guest& guest) const {
    const auto* one = watched(guest);
    return one != nullptr ? &one->progress : nullptr;
}

bool InstallWatch::runs(const Guest& guest) const {
    const auto* progress = find(guest);
    return progress != nullptr && guest.pid() && progress->failed.empty() &&
           progress->phase() >= Phase::answers && progress->phase() < Phase::rebooted;
}

bool InstallWatch::is_over(const Guest& guest) const {
    const auto* progress = find(guest);
    return progress != nullptr &&
           (!progress->failed.empty() || progress->phase() >= Phase::rebooted);
}

void InstallWatch::started(Guest& guest) {
    if (auto* one = watched(guest)) {
        one->progress.moved_s = doors_.now_s();
        one->progress.stalled = false;
    }
    wake();
}

void InstallWatch::wake() {
    if (!look_.active())
        look_.start(watch_interval, watch_interval);
}

void InstallWatch::keep(Guest& guest, const Watched& one) {
    if (auto kept = memory_.keep_progress(guest.id(), text_of(one.progress)); !kept)
        log::warning("host", "vm {}: how far it is installed: {}", guest.config().name,
                     kept.error().message());
}

void InstallWatch::tell(Guest& guest, const Watched& one, std::string_view how) {
    const auto phase = name_of(one.progress.phase());
    auto text = fmt::format("{}{}{}", phase, how.empty() ? "" : ": ", printable(how, 200));
    log::info("host", "vm {}: installation {}: {}", guest.config().name, one.number, text);
    guest.tell("install", text);
}

void InstallWatch::began(Guest& guest) {
    auto* one = watched(guest);
    if (one == nullptr)
        return;
    one->not_of = guest.pid();
    tell(guest, *one, {});
}

void InstallWatch::reached(Guest& guest, Phase phase, std::string_view how) {
    auto* one = watched(guest);
    if (one == nullptr)
        return;
    // A system that runs asks for its address like any other; a reset before the answers is
    // somebody else's.
    if (phase == Phase::rebooted || phase == Phase::answers)
        one->not_of.reset();
    if (one->not_of && one->not_of == guest.pid())
        return;
    const auto now = one->progress.phase();
    if (phase == Phase::lease && now >= Phase::rebooted)
        phase = Phase::booted;
    if (phase >= Phase::rebooted && now < Phase::answers)
        return;
    if (phase == Phase::booted && now < Phase::rebooted && !is_there_already(guest))
        return;
    if (!one->progress.reached(phase, doors_.now_s()))
        return;
    keep(guest, *one);
    tell(guest, *one, how);
    if (phase >= Phase::rebooted)
        doors_.is_over(guest);
    wake();
}

void InstallWatch::answered(Guest& guest, std::string_view how, std::uint64_t wanted_bytes) {
    if (auto* one = watched(guest))
        one->progress.wanted_bytes = wanted_bytes;
    reached(guest, Phase::answers, how);
}

void InstallWatch::fetched(Guest& guest, std::string_view name, std::uint64_t bytes) {
    auto* one = watched(guest);
    if (one == nullptr)
        return;
    const auto now = doors_.now_s();
    const auto before = one->progress.fetched_bytes;
    if (!one->progress.fetched(name, bytes, now)) {
        if (one->progress.fetched_bytes != before && now - one->kept_s >= between_kept_s) {
            one->kept_s = now;
            keep(guest, *one);
        }
        return;
    }
    keep(guest, *one);
    tell(guest, *one, one->progress.set);
    wake();
}

void InstallWatch::look() {
    bool any = false;
    for (const auto& guest : doors_.guests())
        any |= look_at(*guest);
    if (!any)
        look_.stop();
}

// Whether there is more to come.
bool InstallWatch::look_at(Guest& guest) {
    auto* one = watched(guest);
    if (one == nullptr || !guest.pid() || one->progress.over() || one->not_of == guest.pid())
        return false;
    const auto now = doors_.now_s();
    read_console(guest, *one);
    const auto& timeout = guest.config().install->stall_timeout;
    const auto stall_s = std::chrono::duration_cast<std::chrono::seconds>(timeout).count();
    if (stall_s > 0 && may_stall(guest, one->progress) && one->progress.stalls(now, stall_s))
        alarm(guest, *one);
    const auto rebooted = one->progress.since_s[static_cast<std::size_t>(
        is_there_already(guest) ? Phase::answers : Phase::rebooted)];
    if (!one->progress.over() && rebooted && now - *rebooted < ssh_patience_s &&
        now - one->asked_ssh_s >= between_ssh_s) {
        one->asked_ssh_s = now;
        doors_.ask_for_ssh(guest);
    }
    return !one->progress.over() && (!rebooted || now - *rebooted < ssh_patience_s) &&
           now - one->progress.moved_s <= std::max(look_patience_s, stall_s);
}

void InstallWatch::alarm(Guest& guest, const Watched& one) {
    keep(guest, one);
    const auto lines = guest.console_lines();
    const auto where = fmt::format("at {} for {}", name_of(one.progress.phase()),
                                   format_duration(guest.config().install->stall_timeout));
    log::warning("host", "vm {}: installation {} does not go on, {}", guest.config().name,
                 one.number, where);
    for (const auto& line : lines)
        log::notice("host", "vm {}: its console: {}", guest.config().name, line);
    guest.tell("install stalled",
               lines.empty() ? where : fmt::format("{}; its console: {}", where, lines.back()));
}

// As a client of the console, for a moment: whoever is at the keys already stays there.
void InstallWatch::type(Guest& guest, std::string_view keys) {
    auto console = guest.attach_console(true, false);
    if (!console)
        return;
    const auto frame = machine::encode_console_frame(machine::ConsoleFrame::data, as_bytes(keys));
    if (::send(console->get(), frame.data(), frame.size(), MSG_NOSIGNAL | MSG_DONTWAIT) !=
        static_cast<ssize_t>(frame.size()))
        return;
    log::info("host", "vm {}: its medium asks, and is told \"{}\"", guest.config().name,
              keys.substr(0, keys.size() - 1));
    typing_.push_back(*std::move(console));
    typed_.start(typing_time);
}

void InstallWatch::read_console(Guest& guest, Watched& one) {
    if (one.console_of != guest.pid()) { // another console, from its beginning
        one.console_of = guest.pid();
        one.console_position = 0;
        one.console = {};
    }
    std::vector<std::uint8_t> text;
    guest.read_console(one.console_position, max_console_bytes_per_look, text);
    const auto heard = one.console.read(text);
    const auto now = doors_.now_s();
    for (const auto& set : heard.sets)
        if (one.progress.unpacks(set, now)) {
            keep(guest, one);
            tell(guest, one, set);
        }
    if (!heard.failed.empty() && one.progress.fails(heard.failed, now)) {
        keep(guest, one);
        log::error("host", "vm {}: installation {} failed: {}", guest.config().name, one.number,
                   heard.failed);
        guest.tell("install failed", heard.failed);
        doors_.is_over(guest);
    }
    // A guest without BOOTMAC of ours, as it came from a medium.
    if (!heard.keys.empty() && guest.armed() &&
        guest.config().install->system == config::InstallSystem::openbsd)
        type(guest, heard.keys);
    if (heard.login)
        reached(guest, Phase::booted, "it waits for a login");
}

} // namespace vmhost::host
