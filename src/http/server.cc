// Accepting, the caps, and the log of requests.

#include "http/server.h"

#include <cerrno>
#include <fcntl.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include "http/connection.h"

namespace vmhost::http {

namespace {

constexpr int max_accepts_per_turn = 64;
constexpr std::chrono::milliseconds accept_pause{100};

} // namespace

struct Server::Listener {
    Fd socket;
    std::unique_ptr<Watch> watch; // after the socket: it goes first
};

Server::Server(Loop& loop, Options options, Handler handler)
    : loop_(loop), options_(std::move(options)), handler_(std::move(handler)),
      resume_accepting_(loop, [this] {
          for (auto& listener : listeners_)
              listener->watch->set(true, false);
      }) {}

Server::~Server() = default;

Server::SocketName Server::name_of(const sockaddr_storage& name) {
    if (name.ss_family == AF_INET6) {
        const auto& six = reinterpret_cast<const sockaddr_in6&>(name);
        return {Ipv6::from(six.sin6_addr.s6_addr), ntohs(six.sin6_port)};
    }
    const auto& four = reinterpret_cast<const sockaddr_in&>(name);
    return {Ipv4{ntohl(four.sin_addr.s_addr)}, ntohs(four.sin_port)};
}

Server::SocketName Server::local_name(int socket) {
    sockaddr_storage name{};
    socklen_t size = sizeof(name);
    if (::getsockname(socket, reinterpret_cast<sockaddr*>(&name), &size) < 0)
        name = {};
    return name_of(name);
}

Result<void> Server::listen(Fd listening_socket) {
    int family = 0;
    socklen_t size = sizeof(family);
    if (::getsockopt(listening_socket.get(), SOL_SOCKET, SO_DOMAIN, &family, &size) < 0 ||
        (family != AF_INET && family != AF_INET6))
        return fail(ErrorKind::invalid, "http: descriptor {} is no socket of IPv4 or IPv6",
                    listening_socket.get());
    TRY(set_nonblocking(listening_socket));
    if (!reserve_)
        reserve_ = TRY(listening_socket.duplicate());
    auto& listener = *listeners_.emplace_back(std::make_unique<Listener>());
    listener.socket = std::move(listening_socket);
    listener.watch = std::make_unique<Watch>(
        loop_, listener.socket.get(), [this, &listener](Watch::Ready) { accept_some(listener); });
    listener.watch->set(true, false);
    return {};
}

void Server::close_listeners() {
    resume_accepting_.stop();
    listeners_.clear();
    reserve_.reset(); // it is a copy of the first listener and would keep its port
}

void Server::accept_some(Listener& listener) {
    for (int turn = 0; turn < max_accepts_per_turn; ++turn) {
        sockaddr_storage name{};
        socklen_t size = sizeof(name);
        Fd socket(::accept4(listener.socket.get(), reinterpret_cast<sockaddr*>(&name), &size,
                            SOCK_CLOEXEC | SOCK_NONBLOCK));
        if (!socket) {
            if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM)
                return out_of_descriptors(listener, errno);
            if (errno == EAGAIN)
                return;
            continue; // that one connection failed, or a signal came
        }
        auto local = local_name(socket.get());
        admit(std::move(socket), name_of(name), local);
    }
}

void Server::admit(Fd socket, const SocketName& peer, const SocketName& local) {
    const auto id = next_id_++;
    auto connection = std::make_unique<Connection>(*this, id, std::move(socket), peer.address,
                                                   local.address, local.port);
    if (!make_room(connection->client())) {
        if (may_log())
            log::warning("http", "{}: refused, {} connections are open and none of them idle",
                         peer.address.text(), connections_.size());
        return;
    }
    ++per_client_[connection->client()];
    connections_.emplace(id, std::move(connection));
}

bool Server::make_room(std::uint64_t client) {
    auto own = per_client_.find(client);
    if (own != per_client_.end() && own->second >= options_.max_connections_per_address &&
        !close_oldest_idle(client))
        return false;
    return connections_.size() < options_.max_connections || close_oldest_idle(std::nullopt);
}

bool Server::close_oldest_idle(std::optional<std::uint64_t> of_client) {
    std::uint64_t oldest = 0;
    for (const auto& [id, connection] : connections_)
        if (connection->idle() && (!of_client || connection->client() == *of_client) &&
            (oldest == 0 || id < oldest))
            oldest = id;
    if (oldest != 0)
        forget(oldest);
    return oldest != 0;
}

void Server::forget(std::uint64_t id) {
    auto found = connections_.find(id);
    if (found == connections_.end())
        return;
    auto count = per_client_.find(found->second->client());
    if (--count->second == 0)
        per_client_.erase(count);
    connections_.erase(found);
}

// The reserve lets one client in only to turn it away, so that it does not wait
// for an answer that nobody can give; then accepting rests, else the loop would
// spin on a socket that stays readable.
void Server::out_of_descriptors(Listener& listener, int error_number) {
    if (may_log())
        log::warning("http", "{}", Error::system(error_number, "accept a connection").text());
    reserve_.reset();
    Fd(::accept4(listener.socket.get(), nullptr, nullptr, SOCK_CLOEXEC)).reset();
    if (auto copy = listener.socket.duplicate())
        reserve_ = std::move(*copy);
    for (auto& each : listeners_)
        each->watch->set(false, false);
    resume_accepting_.start(accept_pause);
}

std::optional<Response> Server::ask(const Request& request) {
    return handler_(request);
}

void Server::answer(std::uint64_t connection_id, const Response& response) {
    if (auto found = connections_.find(connection_id); found != connections_.end())
        found->second->answer(response);
}

void Server::report(const Access& access) {
    if (log::enabled("http", log::Level::info) && may_log()) {
        auto target = access.query.empty() ? access.path : access.path + "?" + access.query;
        log::info("http", "{} \"{} {}\" {} {} bytes {} us{}", access.peer.text(),
                  printable(access.method), printable(target), access.status, access.body_bytes,
                  access.duration_us,
                  access.cut_off_bytes == 0
                      ? ""
                      : fmt::format(", {} bytes of it were not taken", access.cut_off_bytes));
    }
    if (on_request_)
        on_request_(access);
}

bool Server::may_log() {
    const auto second = loop_.now_ms() / 1000;
    if (second != log_second_) {
        if (log_lines_ > limits::max_http_log_lines_per_second)
            log::notice("http", "{} further lines within a second are left out",
                        log_lines_ - limits::max_http_log_lines_per_second);
        log_second_ = second;
        log_lines_ = 0;
    }
    return ++log_lines_ <= limits::max_http_log_lines_per_second;
}

} // namespace vmhost::http
