#include "sets/download.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/wait.h>

namespace vmhost::sets {

namespace {

using Clock = std::chrono::steady_clock;

// Until something happens there; io when nothing does in time.
Result<void> wait_for(const Fd& fd, short events, Clock::time_point end) {
    for (;;) {
        auto left = std::chrono::duration_cast<std::chrono::milliseconds>(end - Clock::now());
        pollfd ready{fd.get(), events, 0};
        int count = left.count() <= 0 ? 0 : ::poll(&ready, 1, static_cast<int>(left.count()));
        if (count > 0)
            return {};
        if (count == 0)
            return fail(ErrorKind::io, "nothing came in time");
        if (errno != EINTR)
            return fail_errno(errno, "wait");
    }
}

// Of names: as the host's own programs have them, from its files, name servers or whatever its
// nsswitch.conf(5) says. A static program cannot ask the C library for that, which loads modules;
// getent(1) can.
Result<std::string> ask_getent(const std::string& host, std::chrono::milliseconds patience) {
    int ends[2];
    if (::pipe2(ends, O_CLOEXEC) < 0)
        return fail_errno(errno, "make a pipe");
    Fd ours(ends[0]), theirs(ends[1]);
    posix_spawn_file_actions_t actions;
    ::posix_spawn_file_actions_init(&actions);
    ::posix_spawn_file_actions_adddup2(&actions, theirs.get(), STDOUT_FILENO);
    const char* arguments[] = {"getent", "ahosts", "--", host.c_str(), nullptr};
    pid_t child = -1;
    int problem = ::posix_spawnp(&child, arguments[0], &actions, nullptr,
                                 const_cast<char**>(arguments), environ);
    ::posix_spawn_file_actions_destroy(&actions);
    if (problem != 0)
        return fail_errno(problem, "run getent");
    theirs.reset();
    std::string text;
    const auto end = Clock::now() + patience;
    Result<void> waited;
    for (ssize_t count = 1; count > 0 && text.size() < limits::max_fetch_head_bytes;) {
        if (waited = wait_for(ours, POLLIN, end); !waited)
            break;
        std::array<char, 4096> piece;
        count = ::read(ours.get(), piece.data(), piece.size());
        text.append(piece.data(), static_cast<std::size_t>(std::max<ssize_t>(count, 0)));
    }
    if (!waited)
        ::kill(child, SIGKILL);
    while (::waitpid(child, nullptr, 0) < 0 && errno == EINTR)
        ;
    TRY(waited);
    return text;
}

Result<std::vector<IpAddress>> addresses_of(const std::string& host,
                                            std::chrono::milliseconds patience) {
    std::vector<IpAddress> addresses;
    auto add = [&](std::string_view text) {
        std::optional<IpAddress> address;
        if (auto four = parse_ipv4(text))
            address = *four;
        else if (auto six = parse_ipv6(text))
            address = *six;
        if (address && std::ranges::find(addresses, *address) == addresses.end())
            addresses.push_back(*address);
    };
    add(host);
    if (!addresses.empty())
        return addresses;
    auto answer = ask_getent(host, patience);
    if (!answer)
        return std::unexpected(std::move(answer).error().in("look up " + host));
    for (std::string_view text = *answer; !text.empty();) {
        auto line = text.substr(0, text.find('\n'));
        text.remove_prefix(std::min(line.size() + 1, text.size()));
        add(line.substr(0, line.find(' ')));
    }
    if (addresses.empty())
        return fail(ErrorKind::io, "{} has no address", host);
    return addresses;
}

Result<Fd> connect_to(const IpAddress& address, std::uint16_t port,
                      std::chrono::milliseconds patience) {
    const int family = address.is_ipv4() ? AF_INET : AF_INET6;
    Fd socket(::socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    if (!socket)
        return fail_errno(errno, "make a socket");
    sockaddr_in four{};
    four.sin_family = AF_INET;
    four.sin_port = htons(port);
    four.sin_addr.s_addr = htonl(address.ipv4().value);
    sockaddr_in6 six{};
    six.sin6_family = AF_INET6;
    six.sin6_port = htons(port);
    const auto octets = address.ipv6().octets();
    std::ranges::copy(octets, six.sin6_addr.s6_addr);
    const bool is_four = family == AF_INET;
    int done = ::connect(socket.get(),
                         is_four ? reinterpret_cast<const sockaddr*>(&four)
                                 : reinterpret_cast<const sockaddr*>(&six),
                         is_four ? sizeof(four) : sizeof(six));
    int problem = done < 0 ? errno : 0;
    if (problem == EINPROGRESS) {
        TRY(wait_for(socket, POLLOUT, Clock::now() + patience));
        socklen_t size = sizeof(problem);
        if (::getsockopt(socket.get(), SOL_SOCKET, SO_ERROR, &problem, &size) < 0)
            problem = errno;
    }
    if (problem != 0)
        return fail(ErrorKind::io, "{}", std::strerror(problem));
    return socket;
}

Result<Fd> connect_to(const Url& url, const Patience& patience) {
    Result<Fd> socket = fail(ErrorKind::io, "it has no address");
    for (const auto& address : TRY(addresses_of(url.host, patience.connect)))
        if (socket = connect_to(address, url.port, patience.connect); socket)
            break;
    if (!socket)
        return std::unexpected(std::move(socket).error().in("connect to " + url.host));
    return socket;
}

Result<void> send_all(const Fd& socket, std::string_view text, Clock::time_point end) {
    while (!text.empty()) {
        auto count = ::send(socket.get(), text.data(), text.size(), MSG_NOSIGNAL);
        if (count >= 0)
            text.remove_prefix(static_cast<std::size_t>(count));
        else if (errno == EAGAIN)
            TRY(wait_for(socket, POLLOUT, end));
        else if (errno != EINTR)
            return fail(ErrorKind::io, "send the request: {}", std::strerror(errno));
    }
    return {};
}

// Zero at its end.
Result<std::size_t> receive(const Fd& socket, MutableBytes room, Clock::time_point end) {
    for (;;) {
        auto count = ::recv(socket.get(), room.data(), room.size(), 0);
        if (count >= 0)
            return static_cast<std::size_t>(count);
        if (errno == EAGAIN)
            TRY(wait_for(socket, POLLIN, end));
        else if (errno != EINTR)
            return fail(ErrorKind::io, "the connection broke: {}", std::strerror(errno));
    }
}

std::string request_of(const Url& url, const Wanted& wanted) {
    auto name = url.host.find(':') == std::string::npos ? url.host : "[" + url.host + "]";
    auto text =
        fmt::format("GET {} HTTP/1.1\r\nHost: {}{}\r\nConnection: close\r\n"
                    "User-Agent: vmhost\r\nAccept: */*\r\n",
                    url.path, name, url.port == 80 ? std::string() : fmt::format(":{}", url.port));
    if (wanted.offset > 0 && !wanted.validator.empty())
        text +=
            fmt::format("Range: bytes={}-\r\nIf-Range: {}\r\n", wanted.offset, wanted.validator);
    return text + "\r\n";
}

struct Answer {
    Fd socket;
    AnswerHead head;
    std::string rest; // of the body, that came with the head
};

Result<Answer> ask(const Url& url, const Wanted& wanted, const Patience& patience) {
    Answer answer;
    answer.socket = TRY(connect_to(url, patience));
    const auto end = Clock::now() + patience.stall; // of the whole head
    TRY(send_all(answer.socket, request_of(url, wanted), end));
    constexpr std::string_view head_end = "\r\n\r\n";
    std::size_t found = 0;
    while ((found = answer.rest.find(head_end)) == std::string::npos) {
        if (answer.rest.size() >= limits::max_fetch_head_bytes)
            return fail(ErrorKind::corrupt, "the head of the answer is too long");
        std::array<std::uint8_t, 4096> piece;
        auto count = TRY(receive(answer.socket, piece, end));
        if (count == 0)
            return fail(ErrorKind::io, "the connection ended before the answer");
        answer.rest += as_text(Bytes(piece).first(count));
    }
    answer.head = TRY(parse_answer_head(std::string_view(answer.rest).substr(0, found + 2)));
    answer.rest.erase(0, found + head_end.size());
    return answer;
}

bool is_redirect(int status) {
    return status == 301 || status == 302 || status == 303 || status == 307 || status == 308;
}

Result<void> judge(const AnswerHead& head, const Wanted& wanted) {
    if (head.status == 404 || head.status == 410)
        return fail(ErrorKind::not_found, "the mirror does not have it");
    if (head.status == 416 || head.status >= 500 || head.status == 408 || head.status == 429)
        return fail(ErrorKind::io, "the mirror answers with status {}", head.status);
    if (head.status != 200 && head.status != 206)
        return fail(ErrorKind::unsupported, "the mirror answers with status {}", head.status);
    if (head.status == 206 && head.body.offset != wanted.offset)
        return fail(ErrorKind::corrupt, "the mirror sends another part of the file");
    if (head.body.size > wanted.max_bytes)
        return fail(ErrorKind::limit, "it has {}, more than {}", format_size(head.body.size),
                    format_size(wanted.max_bytes));
    return {};
}

Result<void> take_body(Answer& answer, const Patience& patience, const Receiver& receiver) {
    auto left = answer.head.length;
    auto take = [&](Bytes bytes) -> Result<void> {
        bytes =
            bytes.first(std::min<std::uint64_t>(bytes.size(), left)); // beyond is nothing of ours
        left -= bytes.size();
        return receiver.take(bytes);
    };
    TRY(take(as_bytes(answer.rest)));
    std::vector<std::uint8_t> piece(limits::fetch_piece_bytes);
    std::uint64_t in_time = 0; // bytes since the time began
    auto end = Clock::now() + patience.stall;
    while (left > 0) {
        auto count = TRY(receive(answer.socket, piece, end));
        if (count == 0)
            return fail(ErrorKind::io, "the connection ended {} early", format_size(left));
        TRY(take(Bytes(piece).first(count)));
        in_time += count;
        if (in_time >= limits::min_fetched_bytes) {
            in_time = 0;
            end = Clock::now() + patience.stall;
        } else if (left > 0 && Clock::now() > end) {
            return fail(ErrorKind::io, "it comes too slowly");
        }
    }
    return {};
}

} // namespace

Result<void> download(Url url, const Wanted& wanted, const Patience& patience,
                      const Receiver& receiver) {
    for (unsigned redirects = 0; redirects <= limits::max_fetch_redirects; ++redirects) {
        auto answer = TRY(ask(url, wanted, patience));
        if (is_redirect(answer.head.status)) {
            url = TRY(follow(url, answer.head.location));
            continue;
        }
        TRY(judge(answer.head, wanted));
        TRY(receiver.begin(answer.head.body));
        return take_body(answer, patience, receiver);
    }
    return fail(ErrorKind::unsupported, "the mirror sends us on more than {} times",
                limits::max_fetch_redirects);
}

} // namespace vmhost::sets
