#include "host/service_manager.h"

#include <cerrno>
#include <charconv>
#include <cstddef>
#include <cstdlib>
#include <ctime>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

namespace vmhost::host {

using namespace std::chrono_literals;

namespace {

// So often it is asked for so much more time.
constexpr auto ask_interval = 10s;
constexpr auto more_time = 60s;

std::uint64_t number_of(const char* name) {
    const char* text = std::getenv(name);
    std::uint64_t number = 0;
    if (text != nullptr)
        std::from_chars(text, text + std::char_traits<char>::length(text), number);
    return number;
}

} // namespace

ServiceManager::Environment ServiceManager::Environment::of_this_process() {
    Environment out;
    if (const char* socket = std::getenv("NOTIFY_SOCKET"))
        out.socket = socket;
    const bool for_another = std::getenv("WATCHDOG_PID") != nullptr &&
                             number_of("WATCHDOG_PID") != static_cast<std::uint64_t>(::getpid());
    if (!for_another)
        out.watchdog = std::chrono::microseconds(number_of("WATCHDOG_USEC"));
    return out;
}

ServiceManager::ServiceManager(Loop& loop, const Environment& environment)
    : watchdog_(loop, [this] { send("WATCHDOG=1"); }), patience_(loop, [this] { ask_for_time(); }) {
    const auto& name = environment.socket;
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    if (name.size() < 2 || name.size() >= sizeof(address.sun_path) ||
        (name[0] != '/' && name[0] != '@')) {
        if (!name.empty())
            log::warning("host", "NOTIFY_SOCKET={}: is no socket's name", printable(name, 120));
        return;
    }
    name.copy(address.sun_path, name.size());
    auto bytes = offsetof(sockaddr_un, sun_path) + name.size();
    if (name[0] == '@')
        address.sun_path[0] = '\0';
    else
        ++bytes; // with its end
    address_.assign(reinterpret_cast<const char*>(&address), bytes);
    socket_ = Fd(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    auto interval = std::chrono::duration_cast<std::chrono::milliseconds>(environment.watchdog / 2);
    if (socket_ && interval > 0ms)
        watchdog_.start(0ms, interval);
}

// A manager that does not read, or is gone, must not hold up the host.
void ServiceManager::send(const std::string& text) {
    if (!socket_)
        return;
    if (::sendto(socket_.get(), text.data(), text.size(), MSG_NOSIGNAL,
                 reinterpret_cast<const sockaddr*>(address_.data()),
                 static_cast<socklen_t>(address_.size())) < 0)
        log::debug("host", "{}", Error::system(errno, "tell the service manager").text());
}

void ServiceManager::ask_for_time() {
    send(fmt::format("EXTEND_TIMEOUT_USEC={}",
                     std::chrono::duration_cast<std::chrono::microseconds>(more_time).count()));
}

void ServiceManager::starting() {
    send("STATUS=starting");
    if (socket_)
        patience_.start(0ms, ask_interval);
}

void ServiceManager::ready(const std::string& status) {
    patience_.stop();
    send("READY=1\nSTATUS=" + status);
}

void ServiceManager::reloading() {
    timespec now{};
    ::clock_gettime(CLOCK_MONOTONIC, &now);
    send(fmt::format("RELOADING=1\nMONOTONIC_USEC={}\nSTATUS=applying the file",
                     static_cast<std::int64_t>(now.tv_sec) * 1'000'000 + now.tv_nsec / 1000));
    if (socket_)
        patience_.start(0ms, ask_interval);
}

void ServiceManager::stopping() {
    send("STOPPING=1\nSTATUS=ending");
    if (socket_)
        patience_.start(0ms, ask_interval);
}

} // namespace vmhost::host
