// Transfers of files to clients that ask for them: RFC 1350 with the options of RFC 2347, 2348,
// 2349 and 7440. Only "octet", only reading.
//
// One socket serves all: a transfer is known by the address and the port of its client, and this
// side's transfer identifier (RFC 1350 §4) is port 69 for each. A process without a network of its
// own cannot open others, and no client minds.
//
//   request → DATA 1, or OACK → ACK 0 → DATA 1 …: a window of blocks is sent, and the next one when
//   an acknowledgement has come; what is not acknowledged in time is sent again, a few times. The
//   duplicate of an acknowledgement sends nothing (RFC 1123 §4.2.3.1).
//
// Belongs to one thread; no sockets, no clocks, no log lines of its own. Times are milliseconds of
// any monotonic clock, the same in every call.
#pragma once

#include <functional>
#include <map>
#include <string>

#include "base/base.h"
#include "tftp/files.h"
#include "tftp/packet.h"

namespace vmhost::tftp {

struct Client {
    std::size_t listener = 0; // whose socket it speaks to
    Ipv4 address;
    std::uint16_t port = 0;
    auto operator<=>(const Client&) const = default;
};

enum class Outcome : std::uint8_t {
    sent,      // the whole file
    refused,   // no such file, a write, another mode
    malformed, // no message of TFTP
    busy,      // too many transfers, of all or of this client
    aborted,   // by the client's error message
    silent,    // the client does not answer any more
    failed,    // the file cannot be read
};
inline constexpr std::size_t outcomes = 7;
std::string_view name_of(Outcome outcome);

// What came of a request.
struct Event {
    Outcome outcome = Outcome::sent;
    Client client;
    std::string file; // as asked for; to be made printable
    std::uint64_t bytes = 0;
    std::string detail;
    bool log = false; // within the budget of log lines
};
// One line, fit for a log.
std::string text(const Event& event);
void log_event(const Event& event);

class Server {
public:
    using Send = std::function<void(const Client&, Bytes)>;
    using Told = std::function<void(const Event&)>;
    Server(Send send, Told told) : send_(std::move(send)), told_(std::move(told)) {}

    void set_directory(Fd directory) { directory_ = std::move(directory); }
    // One datagram of a client. max_block_bytes: that fit into a packet on the way to it.
    void handle(const Client& client, Bytes message, std::uint64_t now_ms,
                std::uint32_t max_block_bytes = limits::max_tftp_block_bytes);
    // Sends again what was not acknowledged, and ends what takes too long. To be called now and
    // then, while there are transfers.
    void tick(std::uint64_t now_ms);
    std::size_t transfers() const { return transfers_.size(); }

private:
    struct Transfer {
        File file;
        std::string name;
        std::uint32_t block_bytes = 512, window_blocks = 1;
        std::uint64_t timeout_ms = limits::tftp_timeout_ms;
        std::vector<std::uint8_t> options; // an OACK that is not acknowledged; empty = none
        std::uint64_t acknowledged = 0;    // blocks
        std::uint64_t sent = 0;            // the last block
        unsigned tries = 0;                // since the last new acknowledgement
        std::uint64_t began_ms = 0, sent_ms = 0;
        std::uint64_t blocks() const { return file.size_bytes / block_bytes + 1; }
    };
    using Transfers = std::map<Client, Transfer>;

    void read(const Client& client, Bytes payload, std::uint64_t now_ms,
              std::uint32_t max_block_bytes);
    void acknowledge(Transfers::iterator at, std::uint16_t block, std::uint64_t now_ms);
    // False: the file could not be read, and the transfer is gone.
    bool send_window(Transfers::iterator at, std::uint64_t now_ms);
    void refuse(const Client& client, ErrorCode code, std::string_view text, Event event,
                std::uint64_t now_ms);
    Transfers::iterator end(Transfers::iterator at, Outcome outcome, std::uint64_t now_ms,
                            std::string detail = {});
    void tell(Event event, std::uint64_t now_ms);

    Send send_;
    Told told_;
    Fd directory_;
    Transfers transfers_;
    std::uint64_t log_used_ms_ = 0, log_last_ms_ = 0; // of the budget of log lines
};

} // namespace vmhost::tftp
