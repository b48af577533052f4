#include "role/ssh_greeting.h"

#include <array>
#include <cerrno>
#include <sys/socket.h>

namespace vmhost::role {

namespace {

constexpr std::string_view greeting = "SSH-";
// RFC 4253 §4.2 lets a server say other lines first; OpenSSH does not.
constexpr std::chrono::milliseconds patience{3000};
constexpr std::size_t max_waiting = 64;

} // namespace

struct SshGreetings::Waiting {
    Fd socket;
    std::string heard;
    std::unique_ptr<Watch> watch; // after the socket: it goes first
    std::unique_ptr<Timer> end;
};

SshGreetings::SshGreetings(Loop& loop, std::function<void(std::uint64_t)> seen)
    : loop_(loop), seen_(std::move(seen)) {}

SshGreetings::~SshGreetings() = default;

void SshGreetings::wait_for(std::uint64_t number, Fd socket) {
    waiting_.erase(number);
    if (waiting_.size() >= max_waiting)
        return;
    auto& one = *(waiting_[number] = std::make_unique<Waiting>());
    one.socket = std::move(socket);
    one.watch = std::make_unique<Watch>(loop_, one.socket.get(),
                                        [this, number](Watch::Ready) { read(number); });
    one.watch->set(true, false);
    one.end = std::make_unique<Timer>(loop_, [this, number] { waiting_.erase(number); });
    one.end->start(patience);
}

// Destroys what it was called by, as its last act.
void SshGreetings::read(std::uint64_t number) {
    auto found = waiting_.find(number);
    if (found == waiting_.end())
        return;
    auto& one = *found->second;
    std::array<char, greeting.size()> buffer{};
    const auto count =
        ::recv(one.socket.get(), buffer.data(), greeting.size() - one.heard.size(), MSG_DONTWAIT);
    if (count < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (count > 0)
        one.heard.append(buffer.data(), static_cast<std::size_t>(count));
    if (count > 0 && one.heard.size() < greeting.size() && greeting.starts_with(one.heard))
        return;
    const bool seen = one.heard == greeting;
    waiting_.erase(found);
    if (seen)
        seen_(number);
}

} // namespace vmhost::role
