// A server on a loop of its own thread, and clients on loopback for the tests.
#pragma once

#include <catch2/catch.hpp>

#include <arpa/inet.h>
#include <chrono>
#include <csignal>
#include <cstring>
#include <mutex>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <thread>

#include "http/http.h"

namespace vmhost::http {

inline Ipv4 loopback(std::uint8_t last) {
    return {0x7f000000u + last};
}

inline std::string get(std::string_view path, std::string_view fields = "") {
    return "GET " + std::string(path) + " HTTP/1.1\r\nHost: a\r\n" + std::string(fields) + "\r\n";
}
inline constexpr std::string_view close_field = "Connection: close\r\n";

// Echoes what it was asked, except answer files: those are "the answers of VM", after a turn.
class Served {
public:
    explicit Served(Options options = {}, std::vector<Answer> answers = {},
                    std::size_t big_bytes = 0, IpAddress address = loopback(1))
        : address_(address), answers_(std::move(answers)), big_(big_bytes, 'x') {
        start(std::move(options));
    }
    // Files of a site, and nothing else.
    explicit Served(Site site, Options options = {}) : site_(std::move(site)) {
        start(std::move(options));
    }
    ~Served() {
        wakeup_->wake();
        thread_.join();
    }
    const IpAddress& address() const { return address_; }
    std::uint16_t port() const { return port_; }
    std::size_t connections() const { return connections_; }
    // Answers to /later are held back.
    void hold(bool on) { hold_ = on; }
    std::size_t waiting() const { return waiting_; }
    std::vector<Access> accesses() {
        std::lock_guard lock(mutex_);
        return accesses_;
    }
    std::vector<Access> progress() {
        std::lock_guard lock(mutex_);
        return progress_;
    }

private:
    void start(Options options) {
        ::signal(SIGPIPE, SIG_IGN);
        auto socket = open_listener(address_, 0);
        REQUIRE(socket);
        sockaddr_in6 name{}; // the port of IPv4 is in the same place
        socklen_t size = sizeof(name);
        ::getsockname(socket->get(), reinterpret_cast<sockaddr*>(&name), &size);
        port_ = ntohs(name.sin6_port);
        log::set_level("http", log::Level::error);
        thread_ = std::thread(
            [this, options, fd = std::move(*socket)]() mutable { run(options, std::move(fd)); });
        while (!ready_)
            std::this_thread::yield();
    }
    void run(Options options, Fd socket) {
        Loop loop;
        std::vector<std::uint64_t> later; // connections whose answer comes in a turn of its own
        Server* answering = nullptr;
        std::vector<AnswerDesk::Claim> claims; // decided in a turn of their own too
        AnswerDesk desk(
            {.claim = [&](const auto& claim) { claims.push_back(claim); },
             .answer = [&](auto id, const auto& response) { answering->answer(id, response); },
             .now_ms = [&] { return loop.now_ms(); }});
        desk.configure(answers_);
        Server server(loop, options, [&](const Request& request) -> std::optional<Response> {
            if (request.path == "/never")
                return std::nullopt;
            if (request.path == "/later") {
                later.push_back(request.connection_id);
                return std::nullopt;
            }
            if (!site_ && desk.is_for_answer(request))
                return desk.ask(request);
            return answer(request);
        });
        answering = &server;
        server.on_request([this](const Access& access) {
            std::lock_guard lock(mutex_);
            accesses_.push_back(access);
        });
        server.on_progress([this](const Access& access) {
            std::lock_guard lock(mutex_);
            progress_.push_back(access);
        });
        REQUIRE(server.listen(std::move(socket)));
        wakeup_ = std::make_unique<Wakeup>(loop, [&] { loop.stop(); });
        Timer count(loop, [&] {
            connections_ = server.connections();
            waiting_ = later.size();
            if (hold_)
                return;
            for (const auto& claim : std::exchange(claims, {}))
                desk.decided(claim.number, AnswerOutcome::served, "the answers of " + claim.vm);
            Response response;
            response.body = "at last";
            for (auto id : std::exchange(later, {}))
                server.answer(id, response);
        });
        count.start(std::chrono::milliseconds(1), std::chrono::milliseconds(1));
        ready_ = true;
        loop.run();
        wakeup_.reset();
    }
    Response answer(const Request& request) {
        if (site_)
            return site_->answer(request, ::time(nullptr)).value_or(error_response(404));
        Response response;
        if (request.path == "/missing")
            return error_response(404);
        if (request.path == "/big")
            response.body = big_;
        else
            response.body = request.method + " " + request.path + "?" + request.query + "@" +
                            request.host + " " + request.peer.text();
        response.headers.emplace_back("X-Connection", std::to_string(request.connection_id));
        return response;
    }

    IpAddress address_ = loopback(1);
    std::optional<Site> site_;
    std::vector<Answer> answers_;
    std::string big_;
    std::uint16_t port_ = 0;
    std::atomic<bool> ready_ = false;
    std::atomic<std::size_t> connections_ = 0, waiting_ = 0;
    std::atomic<bool> hold_ = false;
    std::mutex mutex_;
    std::vector<Access> accesses_, progress_;
    std::unique_ptr<Wakeup> wakeup_;
    std::thread thread_;
};

class Client {
public:
    // source: of a server at 127.0.0.1; one at ::1 is asked from there.
    explicit Client(const Served& served, Ipv4 source = loopback(1), int receive_buffer = 0)
        : socket_(::socket(served.address().is_ipv4() ? AF_INET : AF_INET6,
                           SOCK_STREAM | SOCK_CLOEXEC, 0)) {
        if (receive_buffer)
            ::setsockopt(socket_.get(), SOL_SOCKET, SO_RCVBUF, &receive_buffer,
                         sizeof(receive_buffer));
        sockaddr_in name{};
        name.sin_family = AF_INET;
        name.sin_addr.s_addr = htonl(source.value);
        sockaddr_in6 six{};
        six.sin6_family = AF_INET6;
        six.sin6_port = htons(served.port());
        six.sin6_addr = IN6ADDR_LOOPBACK_INIT;
        if (served.address().is_ipv4()) {
            REQUIRE(::bind(socket_.get(), reinterpret_cast<sockaddr*>(&name), sizeof(name)) == 0);
            name.sin_addr.s_addr = htonl(0x7f000001);
            name.sin_port = htons(served.port());
            REQUIRE(::connect(socket_.get(), reinterpret_cast<sockaddr*>(&name), sizeof(name)) ==
                    0);
        } else {
            REQUIRE(::connect(socket_.get(), reinterpret_cast<sockaddr*>(&six), sizeof(six)) == 0);
        }
        int on = 1;
        ::setsockopt(socket_.get(), IPPROTO_TCP, 1 /* TCP_NODELAY */, &on, sizeof(on));
    }
    int fd() const { return socket_.get(); }
    void send(std::string_view text) {
        while (!text.empty()) {
            auto count = ::send(socket_.get(), text.data(), text.size(), MSG_NOSIGNAL);
            if (count <= 0)
                return; // the server may have closed already
            text.remove_prefix(static_cast<std::size_t>(count));
        }
    }
    void finish() { ::shutdown(socket_.get(), SHUT_WR); }
    void close() { socket_.reset(); }
    // Until the server closes: what came. was_reset() tells an RST from a FIN.
    std::string read_all(int timeout_ms = 5000) {
        std::string out;
        while (read_piece(out, timeout_ms) > 0)
            ;
        return out;
    }
    // One response with a Content-Length, head and body.
    std::string read_response(bool head_only = false) {
        std::string out = std::exchange(left_over_, {});
        std::size_t end = 0;
        while ((end = out.find("\r\n\r\n")) == std::string::npos)
            if (read_piece(out, 5000) <= 0)
                return out;
        std::size_t length = 0;
        auto field = out.find("Content-Length: ");
        if (field < end && !head_only)
            length = std::stoul(out.substr(field + 16));
        while (out.size() < end + 4 + length)
            if (read_piece(out, 5000) <= 0)
                return out;
        left_over_ = out.substr(end + 4 + length);
        out.resize(end + 4 + length);
        return out;
    }
    bool closed_within(int timeout_ms) {
        std::string out;
        return read_piece(out, timeout_ms) == 0 && out.empty();
    }
    bool was_reset() const { return reset_; }

private:
    ssize_t read_piece(std::string& out, int timeout_ms) {
        pollfd ready{socket_.get(), POLLIN, 0};
        if (::poll(&ready, 1, timeout_ms) <= 0)
            return -1;
        char buffer[65536];
        auto count = ::recv(socket_.get(), buffer, sizeof(buffer), 0);
        if (count > 0)
            out.append(buffer, static_cast<std::size_t>(count));
        if (count < 0)
            reset_ = true;
        return count;
    }
    Fd socket_;
    std::string left_over_;
    bool reset_ = false;
};

inline std::string ask(const Served& served, std::string_view text, Ipv4 source = loopback(1)) {
    Client client(served, source);
    client.send(text);
    return client.read_all();
}

inline int status_of(std::string_view response) {
    return response.size() > 12 && response.starts_with("HTTP/1.1 ")
               ? std::atoi(std::string(response.substr(9, 3)).c_str())
               : 0;
}

inline std::string body_of(const std::string& response) {
    auto end = response.find("\r\n\r\n");
    return end == std::string::npos ? "" : response.substr(end + 4);
}

} // namespace vmhost::http
