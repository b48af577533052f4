// The control role's half: clients of the control socket. Nothing is decided
// here; a request is forwarded with the credentials that the kernel gives for
// the connection.
//
// Loop thread of the control role.
#include "control/control.h"

#include <cerrno>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

namespace vmhost::control {

using namespace std::chrono_literals;

namespace {

Result<sockaddr_un> address_of(const std::string& path) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    if (path.empty() || path.size() >= sizeof(address.sun_path))
        return fail(ErrorKind::limit, "control socket {}: the path has at most {} bytes",
                    printable(path), sizeof(address.sun_path) - 1);
    std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
    return address;
}

Result<Fd> connect_to(const std::string& path, int flags = 0) {
    auto address = TRY(address_of(path));
    Fd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | flags, 0));
    if (!socket)
        return fail_errno(errno, "socket");
    if (::connect(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) < 0)
        return fail_errno(errno, "connect: {}", printable(path));
    return socket;
}

} // namespace

Result<Fd> open_listener(const std::string& path, std::uint32_t owner_uid,
                         std::uint32_t owner_gid) {
    auto address = TRY(address_of(path));
    struct stat there {};
    if (::lstat(path.c_str(), &there) == 0) {
        if (!S_ISSOCK(there.st_mode))
            return fail(ErrorKind::exists, "control socket {}: a file of that name is in the way",
                        printable(path));
        // Only a socket that nobody listens on is one that a dead daemon left.
        if (auto answer = connect_to(path, SOCK_NONBLOCK);
            answer || answer.error().text().find(std::strerror(ECONNREFUSED)) == std::string::npos)
            return fail(ErrorKind::busy, "control socket {}: another vmhost is listening on it",
                        printable(path));
        ::unlink(path.c_str());
    }
    Fd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    if (!socket)
        return fail_errno(errno, "socket");
    auto old_mask = ::umask(0117);
    int bound = ::bind(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address));
    int bind_errno = errno;
    ::umask(old_mask);
    if (bound < 0)
        return fail_errno(bind_errno, "control socket {}", printable(path));
    bool owner_needs_change = owner_uid != ::geteuid() || owner_gid != ::getegid();
    if ((owner_needs_change && ::lchown(path.c_str(), owner_uid, owner_gid) < 0) ||
        ::listen(socket.get(), 64) < 0) {
        auto error = Error::system(errno, fmt::format("control socket {}", printable(path)));
        ::unlink(path.c_str());
        return std::unexpected(std::move(error));
    }
    return socket;
}

struct Server::Client {
    std::unique_ptr<ipc::Channel> channel;
    Caller caller;
    bool busy = false; // a request is being answered
};

Server::Server(Loop& loop, Fd listener, Events events)
    : loop_(loop), listener_(std::move(listener)), events_(std::move(events)),
      watch_(loop, listener_.get(), [this](Watch::Ready) { accept_clients(); }),
      retry_(loop, [this] { watch_.set(true, false); }) {
    watch_.set(true, false);
}

Server::~Server() = default;

void Server::accept_clients() {
    for (;;) {
        Fd socket(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
        if (!socket) {
            if (errno == EMFILE || errno == ENFILE) {
                log::warning("control", "out of descriptors: accepting nobody for a second");
                watch_.set(false, false);
                retry_.start(1s);
            }
            return;
        }
        auto id = next_id_++;
        auto client = std::make_unique<Client>();
        client->channel = std::make_unique<ipc::Channel>(
            loop_, std::move(socket),
            [this, id](ipc::Frame frame) { took_frame(id, std::move(frame)); },
            [this, id](std::optional<Error>) { drop(id); },
            ipc::FrameLimits{limits::max_control_request_bytes, max_request_fds});
        auto peer = client->channel->peer();
        if (!peer)
            continue;
        client->caller = {peer->uid, peer->gid, std::move(peer->groups)};
        if (!has_room_for(peer->uid))
            continue; // closes the connection
        clients_.emplace(id, std::move(client));
    }
}

bool Server::has_room_for(std::uint32_t uid) const {
    std::size_t of_user = 0;
    for (const auto& [id, client] : clients_)
        of_user += client->caller.uid == uid;
    if (uid == 0)
        return clients_.size() < limits::max_control_clients;
    return of_user < limits::max_control_clients_per_user &&
           clients_.size() <
               limits::max_control_clients - limits::control_clients_reserved_for_root;
}

void Server::took_frame(ClientId id, ipc::Frame frame) {
    auto found = clients_.find(id);
    if (found == clients_.end())
        return;
    auto& client = *found->second;
    if (frame.type != request_type || client.busy) {
        log::info("control", "uid {} broke the protocol: cut off", client.caller.uid);
        drop(id);
        return;
    }
    client.busy = true;
    events_.request(id, client.caller, std::string(as_text(frame.payload)), std::move(frame.fds));
}

void Server::drop(ClientId id) {
    if (clients_.erase(id) != 0)
        events_.gone(id);
}

void Server::reply(ClientId id, std::string json, bool last, std::optional<Fd> fd) {
    auto found = clients_.find(id);
    if (found == clients_.end())
        return;
    ipc::Frame frame;
    frame.type = last ? last_reply_type : partial_reply_type;
    frame.payload.assign(json.begin(), json.end());
    if (fd)
        frame.fds.push_back(std::move(*fd));
    if (last)
        found->second->busy = false;
    found->second->channel->send(std::move(frame));
}

Result<Client> Client::connect(const std::string& path) {
    return Client(TRY(connect_to(path)));
}

} // namespace vmhost::control
