// vmhost net trace: what passes one interface of a VM, as a file in the format of pcap.
//
// The daemon opens the packet socket and hands it over; this process reads it, writes, and ends on
// ^C, after COUNT frames, when the VM ends, or when nobody reads what it writes. The file has the
// older format, which everything reads, with nanoseconds (magic 0xa1b23c4d, in this machine's byte
// order) and Ethernet (link type 1): draft-ietf-opsawg-pcap.
#include <array>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <fcntl.h>
#include <nlohmann/json.hpp>
#include <poll.h>
#include <unistd.h>

#include "cli/asking.h"
#include "net/net.h"

namespace vmhost::cli {

namespace {

constexpr std::uint32_t snapshot_bytes = 262'144; // of a frame; the largest of a guest are 65 KiB

struct FileHeader {
    std::uint32_t magic = 0xa1b23c4d;
    std::uint16_t major = 2, minor = 4;
    std::uint32_t reserved[2] = {};
    std::uint32_t snapshot = snapshot_bytes;
    std::uint32_t link_type = 1;
};
static_assert(sizeof(FileHeader) == 24);
struct FrameHeader {
    std::uint32_t seconds, nanoseconds, bytes, wire_bytes;
};
static_assert(sizeof(FrameHeader) == 16);

volatile std::sig_atomic_t interrupted = 0;

void end_on_signals() {
    struct sigaction action {};
    action.sa_handler = [](int) { interrupted = 1; };
    for (int signal : {SIGINT, SIGTERM, SIGHUP})
        ::sigaction(signal, &action, nullptr);
    ::signal(SIGPIPE, SIG_IGN); // nobody reads: an error of the write
}

class Trace {
public:
    Trace(Fd socket, std::FILE* out, std::uint64_t most)
        : socket_(std::move(socket)), out_(out), most_(most) {}

    // The frames that were written.
    Result<std::uint64_t> run() {
        const FileHeader header;
        TRY(write(&header, sizeof(header)));
        for (;;) {
            TRY(take_all());
            if (full() || interrupted)
                break;
            // What is there is to be seen when nothing comes.
            if (std::fflush(out_) != 0)
                return errno == EPIPE ? Result<std::uint64_t>(written_)
                                      : fail_errno(errno, "write");
            pollfd ready{socket_.get(), POLLIN, 0};
            if (::poll(&ready, 1, -1) < 0 && errno != EINTR)
                return fail_errno(errno, "wait");
        }
        if (std::fflush(out_) != 0 && !gone_)
            return fail_errno(errno, "write");
        return written_;
    }
    std::uint32_t lost() const { return net::lost_of_trace(socket_); }

private:
    bool full() const { return gone_ || (most_ != 0 && written_ == most_); }

    Result<void> take_all() {
        while (!full() && !interrupted) {
            auto frame = net::read_trace(socket_, room_);
            if (!frame && frame.error().kind() == ErrorKind::busy)
                return {};
            if (!frame) {
                gone_ = true; // the interface is down, or no more
                return {};
            }
            constexpr std::int64_t ns_per_s = 1'000'000'000;
            const FrameHeader header{static_cast<std::uint32_t>(frame->time_ns / ns_per_s),
                                     static_cast<std::uint32_t>(frame->time_ns % ns_per_s),
                                     static_cast<std::uint32_t>(frame->data.size()),
                                     frame->wire_bytes};
            TRY(write(&header, sizeof(header)));
            TRY(write(frame->data.data(), frame->data.size()));
            ++written_;
        }
        return {};
    }
    Result<void> write(const void* data, std::size_t bytes) {
        if (std::fwrite(data, 1, bytes, out_) == bytes)
            return {};
        if (errno != EPIPE)
            return fail_errno(errno, "write");
        gone_ = true; // who reads has enough
        return {};
    }

    Fd socket_;
    std::FILE* out_;
    std::uint64_t most_;
    std::uint64_t written_ = 0;
    bool gone_ = false;
    std::array<std::uint8_t, snapshot_bytes> room_;
};

Result<Fd> ask_for_socket(const Command& command) {
    auto client = TRY(control::Client::connect(command.socket));
    const nlohmann::json request{
        {"verb", "trace"}, {"vm", command.vm}, {"interface", command.interface}};
    auto answer = TRY(client.request(compact(request)));
    if (!answer.fd)
        return fail(ErrorKind::internal, "the daemon handed over no socket");
    return std::move(*answer.fd);
}

Result<void> trace(const Command& command) {
    const bool to_file = !command.target.empty() && command.target != "-";
    if (!to_file && ::isatty(STDOUT_FILENO))
        return fail(ErrorKind::invalid,
                    "frames are not for a terminal: name a file with -w, or let "
                    "another program read them");
    auto socket = TRY(ask_for_socket(command));
    std::FILE* out = to_file ? std::fopen(command.target.c_str(), "we") : stdout;
    if (out == nullptr)
        return fail_errno(errno, "{}", command.target);
    end_on_signals();
    auto one = std::make_unique<Trace>(std::move(socket), out, command.frames);
    auto written = one->run();
    if (to_file && std::fclose(out) != 0 && written)
        written = fail_errno(errno, "{}", command.target);
    if (!written)
        return std::unexpected(std::move(written).error());
    std::fprintf(stderr, "%llu frames, %u lost\n", static_cast<unsigned long long>(*written),
                 one->lost());
    return {};
}

} // namespace

int run_trace(Command command) {
    auto socket = socket_of(command);
    if (!socket)
        return 1;
    command.socket = *socket;
    auto done = trace(command);
    return done ? 0 : complain("vmhost", std::move(done).error().in("net trace"));
}

} // namespace vmhost::cli
