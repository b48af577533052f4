// The stream that a saved machine is, section by section (vmhost-state(5) has the layout):
//
//   prelude   16 bytes   "VMHSTATE", u32 format, u32 CRC-32 of the 12 bytes before
//   sections  32 bytes   name[16] zero-padded, u16 instance, u16 version, u32 length,
//                        u32 CRC-32 of the payload, u32 CRC-32 of the 28 bytes before
//             length     payload
//   …
//   "end"                u64 bytes of the stream before it, u64 sections before it,
//                        u32 CRC-32 of those bytes, u32 zero
//
// Both ends work forward only, with one section in memory, so a stream may be a pipe.
//
// Threads: StreamWriter::put from several threads (sections are written whole), the rest from
// one. Both block; they belong on a thread that may.
#pragma once

#include <atomic>
#include <functional>
#include <mutex>
#include <string>
#include <vector>

#include "base/base.h"

namespace vmhost::machine {

inline constexpr std::uint32_t state_format = 1;
inline constexpr std::size_t state_name_bytes = 16;
// The largest sections are a megabyte of memory that zstd could not make smaller, and fw_cfg with
// the tables and images that firmware reads.
inline constexpr std::size_t max_state_section_bytes = 4 << 20;

struct SectionName {
    std::string name; // at most 16 bytes: letters, digits, '-'
    std::uint16_t instance = 0;
    bool operator==(const SectionName&) const = default;
    std::string text() const; // "pci 3", for complaints
};

struct Section {
    SectionName name;
    std::uint16_t version = 1;
    std::vector<std::uint8_t> payload;
};

class StreamWriter {
public:
    using Sink = std::function<Result<void>(Bytes)>; // takes all of it or fails
    explicit StreamWriter(Sink sink) : sink_(std::move(sink)) {}

    Result<void> begin();
    Result<void> put(const SectionName& name, std::uint16_t version, Bytes payload);
    Result<void> end();
    std::uint64_t bytes() const { return bytes_; }

private:
    Result<void> write(Bytes bytes);

    std::mutex mutex_;
    Sink sink_;
    std::uint64_t bytes_ = 0, sections_ = 0;
    std::uint32_t crc_ = 0;
};

class StreamReader {
public:
    using Source = std::function<Result<void>(MutableBytes)>; // fills all of it or fails
    explicit StreamReader(Source source) : source_(std::move(source)) {}

    Result<void> begin();
    // The next section, whole and checked; "end" too, whose totals are checked as well. Nothing
    // comes after it.
    Result<Section> next();

private:
    Result<void> read(MutableBytes bytes);
    Result<void> check_end(const Section& end, std::uint64_t bytes, std::uint32_t crc) const;

    Source source_;
    std::uint64_t bytes_ = 0, sections_ = 0;
    std::uint32_t crc_ = 0;
};

inline constexpr std::string_view end_section = "end";

// A descriptor that is a pipe, a socket or a file. Non-blocking or not, it waits for it; when
// `cancelled` turns true it gives up soon after. The descriptor stays the caller's.
StreamWriter::Sink sink_to(int fd, const std::atomic<bool>& cancelled);
StreamReader::Source source_from(int fd);
StreamReader::Source source_from(Bytes bytes); // which outlive it

std::uint32_t crc32_of(Bytes bytes, std::uint32_t before = 0);

} // namespace vmhost::machine
