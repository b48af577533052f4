// The server: accepts connections, asks the handler, sends what it answers.
//
// Everything runs on the loop's thread and nothing blocks. Memory per connection
// is bounded: one head of input, and answers only as long as few of them wait to
// be sent. A client that is slow to ask or slow to read loses its connection after
// a deadline; a client that opens many loses the oldest idle ones.
//
// Owner's duties: SIGPIPE is ignored (sendfile(2) cannot be told to); the server must not be
// destroyed from its handler or hook.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <unordered_map>
#include <vector>

#include <sys/socket.h>

#include "http/message.h"
#include "loop/loop.h"

namespace vmhost::http {

struct Options {
    std::string name = "vmhost"; // of the Server field
    std::chrono::milliseconds head_timeout{limits::http_head_timeout_ms};
    std::chrono::milliseconds body_timeout{limits::http_body_timeout_ms};
    std::chrono::milliseconds idle_timeout{limits::http_idle_timeout_ms};
    std::chrono::milliseconds send_stall_timeout{limits::http_send_stall_timeout_ms};
    std::chrono::milliseconds linger_timeout{limits::http_linger_timeout_ms};
    std::chrono::milliseconds answer_timeout{limits::http_answer_timeout_ms};
    std::chrono::milliseconds progress_interval{1000};
    std::size_t max_connections = limits::max_http_connections;
    std::size_t max_connections_per_address = limits::max_http_connections_per_address;
    std::size_t max_requests_per_connection = limits::max_http_requests_per_connection;
};

// Nothing: the answer comes later, by Server::answer(), or 503 is it when it does not come in time.
using Handler = std::function<std::optional<Response>(const Request&)>;

// One answered request; method and path are empty when the request could not be read.
struct Access {
    IpAddress peer;
    std::string method;
    std::string path;
    std::string query;
    std::string target, referer, user_agent; // as sent
    bool http_1_0 = false;
    std::string vm; // whose answer file it is; else empty
    int status = 0;
    std::uint64_t body_bytes = 0;    // handed to the connection
    std::uint64_t told_bytes = 0;    // of these, what on_progress() was told of before
    std::uint64_t cut_off_bytes = 0; // of a file: the client did not take them
    // From the first byte of the request to its answer; to the end of a file.
    std::uint64_t duration_us = 0;
};
using OnRequest = std::function<void(const Access&)>;

class Connection;

class Server {
public:
    Server(Loop& loop, Options options, Handler handler);
    ~Server(); // closes everything at once
    Server(const Server&) = delete;
    Server& operator=(const Server&) = delete;

    // Of open_listener(); may be called for several sockets.
    Result<void> listen(Fd listening_socket);
    // No new connections; those that are open go on. For a changed [install] listen.
    void close_listeners();
    void on_request(OnRequest hook) { on_request_ = std::move(hook); }
    // Of a file while it is sent, at most once in Options::progress_interval.
    void on_progress(OnRequest hook) { on_progress_ = std::move(hook); }

    // To a request whose handler answered nothing; without effect when its client is gone. Not from
    // within the handler.
    void answer(std::uint64_t connection_id, const Response& response);

    std::size_t connections() const { return connections_.size(); }

private:
    friend class Connection;
    struct Listener;
    struct SocketName {
        IpAddress address;
        std::uint16_t port = 0;
    };
    static SocketName name_of(const sockaddr_storage& name);
    static SocketName local_name(int socket);

    // For connections.
    std::optional<Response> ask(const Request& request);
    void report(const Access& access);
    void forget(std::uint64_t id);

    // Accepting.
    void accept_some(Listener& listener);
    void admit(Fd socket, const SocketName& peer, const SocketName& local);
    bool make_room(std::uint64_t client);
    bool close_oldest_idle(std::optional<std::uint64_t> of_client);
    void out_of_descriptors(Listener& listener, int error_number);
    bool may_log();

    Loop& loop_;
    Options options_;
    Handler handler_;
    OnRequest on_request_, on_progress_;
    std::vector<std::unique_ptr<Listener>> listeners_;
    std::unordered_map<std::uint64_t, std::unique_ptr<Connection>> connections_;
    std::unordered_map<std::uint64_t, std::size_t> per_client_;
    std::uint64_t next_id_ = 1;
    Timer resume_accepting_;
    Fd reserve_; // given up for a moment when descriptors run out
    std::uint64_t log_second_ = 0;
    unsigned log_lines_ = 0;
};

} // namespace vmhost::http
