#include "machine/snapshot/stream.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <climits>
#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

namespace vmhost::machine {

namespace {

constexpr std::string_view magic = "VMHSTATE";
constexpr std::size_t prelude_bytes = 16, header_bytes = 32, end_bytes = 24;
constexpr int look_again_ms = 200; // whether it was cancelled meanwhile

bool is_name_byte(std::uint8_t byte) {
    return (byte >= 'a' && byte <= 'z') || (byte >= '0' && byte <= '9') || byte == '-';
}

// Waits until the descriptor can go on; false when the time is over first.
bool wait_for(int fd, short what, int timeout_ms) {
    pollfd one{.fd = fd, .events = what, .revents = 0};
    return ::poll(&one, 1, timeout_ms) != 0;
}

} // namespace

std::string SectionName::text() const {
    return instance == 0 ? name : fmt::format("{} {}", name, instance);
}

std::uint32_t crc32_of(Bytes bytes, std::uint32_t before) {
    return static_cast<std::uint32_t>(::crc32_z(before, bytes.data(), bytes.size()));
}

Result<void> StreamWriter::write(Bytes bytes) {
    TRY(sink_(bytes));
    bytes_ += bytes.size();
    crc_ = crc32_of(bytes, crc_);
    return {};
}

Result<void> StreamWriter::begin() {
    ByteWriter prelude;
    prelude.bytes(as_bytes(magic));
    prelude.le(state_format);
    prelude.le(crc32_of(prelude.buffer()));
    return write(prelude.buffer());
}

Result<void> StreamWriter::put(const SectionName& name, std::uint16_t version, Bytes payload) {
    if (name.name.empty() || name.name.size() > state_name_bytes ||
        payload.size() > max_state_section_bytes)
        return fail(ErrorKind::internal, "state section {}: {} bytes cannot be written",
                    name.text(), payload.size());
    ByteWriter header;
    header.bytes(as_bytes(name.name));
    header.pad_to(state_name_bytes);
    header.le(name.instance);
    header.le(version);
    header.le(static_cast<std::uint32_t>(payload.size()));
    header.le(crc32_of(payload));
    header.le(crc32_of(header.buffer()));
    std::scoped_lock guard(mutex_);
    TRY(write(header.buffer()));
    TRY(write(payload));
    ++sections_;
    return {};
}

Result<void> StreamWriter::end() {
    ByteWriter payload;
    payload.le(bytes_);
    payload.le(sections_);
    payload.le(crc_);
    payload.le(std::uint32_t{0});
    return put({std::string(end_section)}, 1, payload.buffer());
}

Result<void> StreamReader::read(MutableBytes bytes) {
    TRY(source_(bytes));
    bytes_ += bytes.size();
    crc_ = crc32_of(bytes, crc_);
    return {};
}

Result<void> StreamReader::begin() {
    std::array<std::uint8_t, prelude_bytes> raw{};
    TRY(read(raw));
    ByteReader reader{Bytes(raw)};
    if (as_text(reader.bytes(magic.size())) != magic)
        return fail(ErrorKind::invalid, "this is not the state of a vmhost machine");
    auto format = reader.le<std::uint32_t>();
    if (reader.le<std::uint32_t>() != crc32_of(Bytes(raw).first(12)))
        return fail(ErrorKind::corrupt, "the state's first bytes are damaged");
    if (format != state_format)
        return fail(ErrorKind::unsupported, "the state has format {}, only format {} is known here",
                    format, state_format);
    return {};
}

Result<Section> StreamReader::next() {
    const auto bytes_before = bytes_;
    const auto crc_before = crc_;
    std::array<std::uint8_t, header_bytes> raw{};
    TRY(read(raw));
    ByteReader reader{Bytes(raw)};
    auto name = reader.bytes(state_name_bytes);
    Section section;
    section.name.instance = reader.le<std::uint16_t>();
    section.version = reader.le<std::uint16_t>();
    auto length = reader.le<std::uint32_t>();
    auto payload_crc = reader.le<std::uint32_t>();
    if (reader.le<std::uint32_t>() != crc32_of(Bytes(raw).first(header_bytes - 4)))
        return fail(ErrorKind::corrupt, "the state is damaged at byte {}", bytes_before);
    auto name_end = std::ranges::find_if_not(name, is_name_byte);
    if (name_end == name.begin() ||
        std::any_of(name_end, name.end(), [](std::uint8_t byte) { return byte != 0; }))
        return fail(ErrorKind::corrupt, "the state has a section without a name at byte {}",
                    bytes_before);
    section.name.name = as_text(Bytes(name.begin(), name_end));
    if (length > max_state_section_bytes)
        return fail(ErrorKind::limit, "state section {}: {} bytes are more than the {} allowed",
                    section.name.text(), length, max_state_section_bytes);
    section.payload.resize(length);
    TRY(read(section.payload));
    if (crc32_of(section.payload) != payload_crc)
        return fail(ErrorKind::corrupt, "state section {}: its {} bytes are damaged",
                    section.name.text(), length);
    if (section.name.name == end_section)
        TRY(check_end(section, bytes_before, crc_before));
    ++sections_;
    return section;
}

Result<void> StreamReader::check_end(const Section& end, std::uint64_t bytes,
                                     std::uint32_t crc) const {
    ByteReader reader{Bytes(end.payload)};
    if (end.payload.size() != end_bytes || reader.le<std::uint64_t>() != bytes ||
        reader.le<std::uint64_t>() != sections_ || reader.le<std::uint32_t>() != crc)
        return fail(ErrorKind::corrupt, "the state's end does not belong to what came before it");
    return {};
}

StreamWriter::Sink sink_to(int fd, const std::atomic<bool>& cancelled) {
    // A pipe that is ready takes at least PIPE_BUF without blocking; with more in hand the write
    // would block for ever behind a reader that stopped.
    struct stat status {};
    const bool is_file = ::fstat(fd, &status) == 0 && S_ISREG(status.st_mode);
    const std::size_t most = is_file ? SSIZE_MAX : PIPE_BUF;
    return [fd, most, &cancelled](Bytes bytes) -> Result<void> {
        while (!bytes.empty()) {
            if (cancelled)
                return fail(ErrorKind::busy, "cancelled");
            if (!wait_for(fd, POLLOUT, look_again_ms))
                continue;
            auto count = ::write(fd, bytes.data(), std::min(bytes.size(), most));
            if (count < 0 && (errno == EINTR || errno == EAGAIN))
                continue;
            if (count < 0)
                return fail_errno(errno, "write the state");
            bytes = bytes.subspan(static_cast<std::size_t>(count));
        }
        return {};
    };
}

StreamReader::Source source_from(int fd) {
    return [fd](MutableBytes bytes) -> Result<void> {
        while (!bytes.empty()) {
            auto count = ::read(fd, bytes.data(), bytes.size());
            if (count < 0 && errno == EAGAIN)
                (void)wait_for(fd, POLLIN, look_again_ms);
            if (count < 0 && (errno == EINTR || errno == EAGAIN))
                continue;
            if (count < 0)
                return fail_errno(errno, "read the state");
            if (count == 0)
                return fail(ErrorKind::corrupt, "the state is cut short");
            bytes = bytes.subspan(static_cast<std::size_t>(count));
        }
        return {};
    };
}

StreamReader::Source source_from(Bytes bytes) {
    return [bytes](MutableBytes into) mutable -> Result<void> {
        if (into.size() > bytes.size())
            return fail(ErrorKind::corrupt, "the state is cut short");
        std::ranges::copy(bytes.first(into.size()), into.begin());
        bytes = bytes.subspan(into.size());
        return {};
    };
}

} // namespace vmhost::machine
