// The memory is written by a few threads that each take the next megabyte, compress it and
// put it into the stream: sections carry their address, so their order does not matter.
#include "machine/snapshot/snapshot.h"

#include <algorithm>
#include <mutex>
#include <optional>
#include <thread>

#include "machine/snapshot/memory_pages.h"

namespace vmhost::machine {

namespace {

constexpr std::string_view memory_section = "memory";
// More would take the processors of other guests, and a disk is not faster.
constexpr unsigned most_writers = 4;

Error blame(Error error, const SectionName& name) {
    return std::move(error).in("state section " + name.text());
}

class MemoryWriter {
public:
    MemoryWriter(const std::vector<GuestMemory::Range>& ranges, StreamWriter& stream,
                 const std::atomic<bool>& cancelled, const SaveProgress& progress)
        : ranges_(ranges), stream_(stream), cancelled_(cancelled), progress_(progress) {
        for (const auto& range : ranges_)
            all_bytes_ += range.size_bytes;
    }

    Result<void> run() {
        auto count = std::clamp(std::thread::hardware_concurrency(), 1U, most_writers);
        std::vector<std::jthread> helpers;
        try {
            for (unsigned i = 1; i < count; ++i)
                helpers.emplace_back([this] { work(); });
        } catch (const std::system_error&) {
            // Fewer do as well.
        }
        work();
        helpers.clear(); // joins
        if (failure_)
            return std::unexpected(*std::move(failure_));
        return {};
    }

private:
    struct Piece {
        Gpa start = 0;
        Bytes bytes;
    };

    std::optional<Piece> next() {
        std::scoped_lock guard(mutex_);
        while (range_ < ranges_.size() && offset_ >= ranges_[range_].size_bytes) {
            ++range_;
            offset_ = 0;
        }
        if (range_ == ranges_.size() || failure_)
            return std::nullopt;
        const auto& range = ranges_[range_];
        auto size = std::min(saved_chunk_bytes, range.size_bytes - offset_);
        Piece piece{range.start + offset_, Bytes(range.host + offset_, size)};
        offset_ += size;
        return piece;
    }

    void work() {
        PageWriter pages;
        while (auto piece = next()) {
            auto written = write(pages, *piece);
            std::scoped_lock guard(mutex_);
            if (!written && !failure_)
                failure_ = std::move(written).error();
            done_bytes_ += piece->bytes.size();
            if (progress_)
                progress_(done_bytes_, all_bytes_);
        }
    }

    Result<void> write(PageWriter& pages, const Piece& piece) {
        if (cancelled_)
            return fail(ErrorKind::busy, "cancelled");
        auto payload = TRY(pages.encode(piece.start, piece.bytes));
        if (payload.empty())
            return {};
        return stream_.put({std::string(memory_section)}, 1, payload);
    }

    const std::vector<GuestMemory::Range>& ranges_;
    StreamWriter& stream_;
    const std::atomic<bool>& cancelled_;
    const SaveProgress& progress_;
    std::uint64_t all_bytes_ = 0;
    std::mutex mutex_; // the rest
    std::size_t range_ = 0;
    std::uint64_t offset_ = 0, done_bytes_ = 0;
    std::optional<Error> failure_;
};

} // namespace

Result<Section> save_part(const Part& part) {
    StateArchive archive;
    part.state(archive);
    if (auto finished = archive.finish(); !finished)
        return std::unexpected(blame(std::move(finished).error(), part.name));
    return Section{part.name, archive.version(), archive.take()};
}

Result<void> load_part(const Part& part, const Section& section) {
    if (section.name != part.name)
        return fail(ErrorKind::corrupt, "the state has section {} where {} belongs",
                    section.name.text(), part.name.text());
    StateArchive archive(section.payload, section.version);
    part.state(archive);
    if (auto finished = archive.finish(); !finished)
        return std::unexpected(blame(std::move(finished).error(), part.name));
    return {};
}

Result<void> load_part(const Part& part, StreamReader& reader) {
    auto section = TRY(reader.next());
    return load_part(part, section);
}

Result<void> write_state(const std::vector<Section>& sections,
                         const std::vector<GuestMemory::Range>& memory, StreamWriter& writer,
                         const std::atomic<bool>& cancelled, const SaveProgress& progress) {
    TRY(writer.begin());
    for (const auto& section : sections)
        TRY(writer.put(section.name, section.version, section.payload));
    TRY(MemoryWriter(memory, writer, cancelled, progress).run());
    return writer.end();
}

Result<void> read_memory(StreamReader& reader, GuestMemory& memory) {
    PageReader pages;
    for (;;) {
        auto section = TRY(reader.next());
        if (section.name.name == end_section)
            return {};
        if (section.name.name != memory_section)
            return fail(ErrorKind::corrupt, "the state has section {} where memory belongs",
                        section.name.text());
        if (section.version != 1)
            return fail(ErrorKind::unsupported, "state section memory: its version {} is not known",
                        section.version);
        TRY(pages.decode(section.payload, memory));
    }
}

} // namespace vmhost::machine
