#include "role/child.h"

#include <cerrno>
#include <csignal>
#include <cstdio>
#include <fcntl.h>
#include <string_view>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "role/role.h"

namespace vmhost::role {

namespace {

constexpr int parent_fd = 3;

} // namespace

Parent::Parent(Loop& loop, Message message, std::function<void()> gone)
    : loop_(loop), message_(std::move(message)), gone_(std::move(gone)) {
    connect(Fd(parent_fd));
}

void Parent::connect(Fd socket) {
    channel_ = std::make_unique<ipc::Channel>(
        loop_, std::move(socket),
        [this](ipc::Frame frame) {
            if (failed_)
                return;
            if (frame.type == ipc::Ping::type)
                return send(ipc::Pong{});
            if (frame.type == ipc::LogLevels::type) {
                if (auto order = ipc::decode<ipc::LogLevels>(std::move(frame)))
                    (void)log::set_levels(order->levels);
                return;
            }
            if (auto taken = message_(std::move(frame)); !taken)
                fail(taken.error());
        },
        [this](std::optional<Error> error) { closed(error); });
}

void Parent::closed(const std::optional<Error>& error) {
    // A parent that ends does not read what is still on its way.
    if (error)
        log::info("role", "channel to the parent: {}", error->message());
    channel_.reset();
    if (listener_ && !failed_ && !finishing_) {
        log::notice("role", "the parent is gone: waiting for the next");
        next_->set(true, false);
        lost_();
        return;
    }
    if (gone_)
        gone_();
    loop_.stop();
}

void Parent::outlive(Fd listener, std::function<void()> lost, std::function<void()> found) {
    if (auto peer = channel_->peer())
        uid_ = peer->uid;
    listener_ = std::move(listener);
    lost_ = std::move(lost);
    found_ = std::move(found);
    next_ = std::make_unique<Watch>(loop_, listener_.get(), [this](Watch::Ready) { found_next(); });
}

// The socket is in a folder of root's; still, whoever else connects is sent away.
void Parent::found_next() {
    Fd socket(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (!socket)
        return;
    connect(std::move(socket));
    auto peer = channel_->peer();
    if (!peer || peer->uid != uid_) {
        log::warning("role", "refused a connection that is not the parent's");
        channel_.reset();
        return;
    }
    next_->set(false, false);
    log::notice("role", "taken over by the parent with pid {}", peer->pid);
    found_();
}

void Parent::fail(const Error& error) {
    failed_ = true;
    send(ipc::Failed{static_cast<std::uint8_t>(error.kind()), error.message()});
    finish();
}

void Parent::finish() {
    finishing_ = true;
    if (channel_)
        channel_->close_when_sent();
    else
        loop_.stop();
}

int serve(Loop& loop, std::unique_ptr<Parent>& parent, const Identity& identity,
          std::span<const Call> calls, Parent::Message message, std::function<void()> gone) {
    auto confined = confine(identity, calls);
    parent = std::make_unique<Parent>(loop, std::move(message), std::move(gone));
    if (!confined)
        parent->fail(confined.error());
    // From here on: no rights but the descriptors that the parent sends.
    loop.run();
    return parent->failed() ? 1 : 0;
}

// argv: vmhost role NAME TITLE UID GID LEVELS, descriptor 3 = the parent. Only host/ calls this.
int run_child(int argc, char** argv) {
    if (argc != 7 || ::fcntl(parent_fd, F_GETFD) < 0) {
        std::fputs("vmhost: role processes are started by vmhost run\n", stderr);
        return 1;
    }
    // Only what the parent meant to hand over: 0 to 2 and the channel.
    ::close_range(parent_fd + 1, ~0U, 0);
    if (::chdir("/") < 0) {
        std::perror("vmhost: chdir /");
        return 1;
    }
    ::umask(077);
    std::string_view role = argv[2];
    log::set_role(argv[3]);
    Identity identity{argv[4], argv[5], role == "vm", role == "tftp" || role == "http"};
    if (auto levels = log::set_levels(argv[6]); !levels)
        log::warning("role", "{}", levels.error().message());
    ::signal(SIGPIPE, SIG_IGN);
    if (role == "control")
        return run_control(identity);
    if (role == "dhcp")
        return run_dhcp(identity);
    if (role == "http")
        return run_http(identity);
    if (role == "ipv6")
        return run_ipv6(identity);
    if (role == "tftp")
        return run_tftp(identity);
    if (role == "vm")
        return run_vm(identity);
    log::error("role", "there is no role \"{}\"", printable(role));
    return 1;
}

} // namespace vmhost::role
