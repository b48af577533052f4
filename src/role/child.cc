#include "role/child.h"

#include <cerrno>
#include <charconv>
#include <csignal>
#include <cstdio>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <string_view>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "role/role.h"

namespace vmhost::role {

namespace {

constexpr int parent_fd = 3;

Result<unsigned> number(const std::string& text) {
    unsigned value = 0;
    auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc() || end != text.data() + text.size())
        return fail(ErrorKind::invalid, "\"{}\" is no user or group number", printable(text));
    return value;
}

} // namespace

Parent::Parent(Loop& loop, Message message, std::function<void()> gone)
    : loop_(loop), gone_(std::move(gone)) {
    channel_ = std::make_unique<ipc::Channel>(
        loop, Fd(parent_fd),
        [this, message = std::move(message)](ipc::Frame frame) {
            if (failed_)
                return;
            if (auto taken = message(std::move(frame)); !taken)
                fail(taken.error());
        },
        [this](std::optional<Error> error) {
            // A parent that ends does not read what is still on its way.
            if (error)
                log::info("role", "channel to the parent: {}", error->message());
            if (gone_)
                gone_();
            loop_.stop();
        });
}

void Parent::fail(const Error& error) {
    failed_ = true;
    send(ipc::Failed{static_cast<std::uint8_t>(error.kind()), error.message()});
    finish();
}

void Parent::finish() {
    channel_->close_when_sent();
}

namespace {

// A parent that is not root may still have been given capabilities; no role needs any.
Result<void> drop_capabilities() {
    ::prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
    __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
    __user_cap_data_struct none[2] = {};
    if (::syscall(SYS_capset, &header, none) < 0)
        return fail_errno(errno, "drop capabilities");
    return {};
}

} // namespace

Result<void> drop_rights(const std::string& uid, const std::string& gid) {
    if (uid != "-") {
        auto user = TRY(number(uid));
        auto group = TRY(number(gid));
        if (::setgroups(0, nullptr) < 0 || ::setresgid(group, group, group) < 0 ||
            ::setresuid(user, user, user) < 0)
            return fail_errno(errno, "become uid {} gid {}", user, group);
        // Root must be out of reach from here on.
        if (user != 0 && ::setresuid(0, 0, 0) == 0)
            return fail(ErrorKind::internal, "root could be regained after becoming uid {}", user);
    }
    TRY(drop_capabilities());
    if (::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
        return fail_errno(errno, "set no_new_privs");
    if (::prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0)
        return fail_errno(errno, "forbid dumps");
    return {};
}

int serve(Loop& loop, std::unique_ptr<Parent>& parent, const std::string& uid,
          const std::string& gid, Parent::Message message, std::function<void()> gone) {
    auto dropped = drop_rights(uid, gid);
    parent = std::make_unique<Parent>(loop, std::move(message), std::move(gone));
    if (!dropped)
        parent->fail(dropped.error());
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
    std::string uid = argv[4], gid = argv[5];
    if (auto levels = log::set_levels(argv[6]); !levels)
        log::warning("role", "{}", levels.error().message());
    ::signal(SIGPIPE, SIG_IGN);
    if (role == "control")
        return run_control(uid, gid);
    if (role == "dhcp")
        return run_dhcp(uid, gid);
    if (role == "http")
        return run_http(uid, gid);
    if (role == "vm")
        return run_vm(uid, gid);
    log::error("role", "there is no role \"{}\"", printable(role));
    return 1;
}

} // namespace vmhost::role
