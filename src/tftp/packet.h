// TFTP messages on the wire: RFC 1350 §5, options of RFC 2347, 2348, 2349 and 7440.
//
// Everything comes from a guest or its boot ROM. What is no option of ours, or has a value that is
// none, is left unanswered, as RFC 2347 wants it.
#pragma once

#include <cstdint>
#include <expected>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/base.h"

namespace vmhost::tftp {

enum class Opcode : std::uint16_t {
    read = 1,
    write = 2,
    data = 3,
    acknowledgement = 4,
    error = 5,
    options = 6,
};

enum class ErrorCode : std::uint16_t {
    undefined = 0,
    not_found = 1,
    denied = 2,
    illegal = 4,
    unknown_transfer = 5,
};

struct ReadRequest {
    std::string file, mode; // as sent; without NULs
    std::optional<std::uint32_t> block_bytes, timeout_s, window_blocks;
    bool wants_size = false;
};
// payload behind the opcode. The error says what is wrong.
std::expected<ReadRequest, std::string_view> parse_read_request(Bytes payload);

std::vector<std::uint8_t> build_data(std::uint16_t block, Bytes data);
std::vector<std::uint8_t> build_error(ErrorCode code, std::string_view text);
using Options = std::vector<std::pair<std::string_view, std::uint64_t>>;
std::vector<std::uint8_t> build_options(const Options& options);

} // namespace vmhost::tftp
