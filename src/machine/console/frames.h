// Frames between a console client and the VM process, on a stream socket, both
// ways: {u8 kind, u8 0, u16 length little-endian} and length bytes of data.
// The door for clients (cli/): the only header of machine/ beside machine.h.
#pragma once

#include <functional>
#include <vector>

#include "base/base.h"

namespace vmhost::machine {

enum class ConsoleFrame : std::uint8_t {
    data = 1,       // bytes of the line, both ways
    line_break = 2, // client → VM: BREAK, no data
    notice = 3,     // VM → client: text for the person, not from the guest
    writer = 4,     // VM → client: data[0] 1 = you hold the writer's token, 0 = read only
    ended = 5,      // VM → client: the guest is gone; the socket closes
    size = 6,       // client → VM: of its terminal, u16 columns and u16 rows, little-endian
    closed = 7,     // VM → client: the client is turned away; a notice before it says why
};

// Of the data in one frame.
inline constexpr std::size_t max_console_frame_bytes = 4096;

// Data beyond the maximum is cut off: the caller splits.
std::vector<std::uint8_t> encode_console_frame(ConsoleFrame kind, Bytes data);

// Takes a stream apart. false = the peer broke the protocol, now or earlier. take must not
// destroy the reader.
class ConsoleFrameReader {
public:
    using Take = std::function<void(ConsoleFrame, Bytes)>;
    bool feed(Bytes input, const Take& take);

private:
    std::vector<std::uint8_t> pending_;
    bool broken_ = false;
};

} // namespace vmhost::machine
