// vmctl's half: blocking, because a command line has nothing else to do.
#include "control/control.h"

#include <cerrno>
#include <nlohmann/json.hpp>
#include <sys/socket.h>

namespace vmhost::control {

namespace {

Error refusal(const nlohmann::json& reply) {
    static constexpr ErrorKind kinds[] = {
        ErrorKind::invalid, ErrorKind::not_found,   ErrorKind::exists, ErrorKind::busy,
        ErrorKind::denied,  ErrorKind::unsupported, ErrorKind::limit,  ErrorKind::corrupt,
        ErrorKind::io,      ErrorKind::internal};
    auto word = reply.value("kind", std::string("internal"));
    for (auto kind : kinds)
        if (name_of(kind) == word)
            return Error(kind, reply.value("error", std::string("refused without a reason")));
    return Error(ErrorKind::internal, reply.value("error", std::string("refused")));
}

// One recvmsg with whatever descriptors came along.
Result<std::pair<std::vector<std::uint8_t>, std::vector<Fd>>> receive(int socket) {
    std::vector<std::uint8_t> bytes(64 << 10);
    alignas(cmsghdr) char ancillary[CMSG_SPACE(sizeof(int) * limits::max_frame_fds)];
    iovec vector{bytes.data(), bytes.size()};
    msghdr message{};
    message.msg_iov = &vector;
    message.msg_iovlen = 1;
    message.msg_control = ancillary;
    message.msg_controllen = sizeof(ancillary);
    ssize_t count;
    do
        count = ::recvmsg(socket, &message, MSG_CMSG_CLOEXEC);
    while (count < 0 && errno == EINTR);
    if (count < 0)
        return fail_errno(errno, "read from the daemon");
    if (count == 0)
        return fail(ErrorKind::io, "pipe closed");
    std::vector<Fd> fds;
    for (auto* header = CMSG_FIRSTHDR(&message); header != nullptr;
         header = CMSG_NXTHDR(&message, header)) {
        if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS)
            continue;
        auto count_fds = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (std::size_t i = 0; i < count_fds; ++i) {
            int number;
            std::memcpy(&number, CMSG_DATA(header) + i * sizeof(int), sizeof(int));
            fds.emplace_back(number);
        }
    }
    bytes.resize(static_cast<std::size_t>(count));
    return std::pair{std::move(bytes), std::move(fds)};
}

Result<void> send_all(int socket, Bytes bytes, const std::vector<Fd>& fds) {
    alignas(cmsghdr) char ancillary[CMSG_SPACE(sizeof(int) * max_request_fds)] = {};
    if (fds.size() > max_request_fds)
        return fail(ErrorKind::limit, "a request with {} descriptors", fds.size());
    for (std::size_t sent = 0; sent < bytes.size();) {
        iovec vector{const_cast<std::uint8_t*>(bytes.data()) + sent, bytes.size() - sent};
        msghdr message{};
        message.msg_iov = &vector;
        message.msg_iovlen = 1;
        if (sent == 0 && !fds.empty()) { // with the first byte
            message.msg_control = ancillary;
            message.msg_controllen = CMSG_SPACE(sizeof(int) * fds.size());
            auto* header = CMSG_FIRSTHDR(&message);
            header->cmsg_level = SOL_SOCKET;
            header->cmsg_type = SCM_RIGHTS;
            header->cmsg_len = CMSG_LEN(sizeof(int) * fds.size());
            for (std::size_t i = 0; i < fds.size(); ++i) {
                int number = fds[i].get();
                std::memcpy(CMSG_DATA(header) + i * sizeof(int), &number, sizeof(int));
            }
        }
        auto count = ::sendmsg(socket, &message, MSG_NOSIGNAL);
        if (count < 0 && errno == EINTR)
            continue;
        if (count < 0)
            return fail_errno(errno, "write to the daemon");
        sent += static_cast<std::size_t>(count);
    }
    return {};
}

} // namespace

Result<Client::Answer> Client::request(const std::string& asked,
                                       const std::function<void(Answer)>& take,
                                       std::vector<Fd> fds) {
    ipc::Frame request;
    request.type = request_type;
    request.payload.assign(asked.begin(), asked.end());
    request.fds = std::move(fds); // frame_bytes counts them
    auto bytes = ipc::frame_bytes(request);
    TRY(send_all(socket_.get(), bytes, request.fds));
    for (;;) {
        while (!ready_.empty()) {
            auto frame = std::move(ready_.front());
            ready_.erase(ready_.begin());
            std::string text(as_text(frame.payload));
            auto reply = nlohmann::json::parse(text, nullptr, false);
            if (!reply.is_object())
                return fail(ErrorKind::corrupt, "the daemon's reply is no JSON object");
            if (!reply.value("ok", false))
                return std::unexpected(refusal(reply));
            Answer answer{std::move(text), std::nullopt};
            if (!frame.fds.empty())
                answer.fd = std::move(frame.fds.front());
            if (frame.type == last_reply_type)
                return answer;
            if (take)
                take(std::move(answer));
        }
        auto received = TRY(receive(socket_.get()));
        ready_ = TRY(reader_.feed(received.first, std::move(received.second)));
    }
}

} // namespace vmhost::control
