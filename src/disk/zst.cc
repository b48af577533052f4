// Images compressed in independent frames of zstd, for templates: any 1 MiB of the disk is found
// and expanded alone, so such a file can lie below a qcow2 image, and can be written and
// expanded by many threads at once.
//
// The file is a row of frames as RFC 8878 has them, and one skippable frame at its end, the
// seek table of zstd's "seekable format"
// (contrib/seekable_format/zstd_seekable_compression_format.md):
//
//   u32 0x184D2A5E, u32 length of all that follows
//   per frame: u32 compressed bytes, u32 expanded bytes, u32 checksum if announced
//   u32 number of frames, u8 descriptor (bit 7: checksums; bits 2 to 6 are zero), u32 0x8F92EAB1
//
// all little-endian. `zstd -d` expands such a file into the raw image; checksums are those
// inside the frames (the library verifies them), so our tables have none. What a table says is
// compared with the file and the limits before anything of it is used, and a frame that does
// not expand to just what its row says is an error.
//
// Any thread. Frames that were expanded last are kept, in the order of their use.
#include <algorithm>
#include <condition_variable>
#include <cstring>
#include <list>
#include <map>
#include <mutex>
#include <thread>
#include <zstd.h>

#include <sys/stat.h>

#include "disk/disk.h"
#include "disk/limits.h"
#include "disk/new_file.h"
#include "disk/storage.h"
#include "disk/vectors.h"

namespace vmhost::disk {

namespace {

constexpr std::uint32_t skippable_magic = 0x184d2a5e, footer_magic = 0x8f92eab1;
constexpr std::uint64_t footer_bytes = 9, skippable_bytes = 8;
constexpr std::uint8_t has_checksums = 0x80, reserved_bits = 0x7c;

struct Frame {
    std::uint64_t start = 0; // of the disk
    std::uint64_t place = 0; // in the file
};

// One row past the last frame tells where it ends.
Result<std::vector<Frame>> read_table(Storage& file) {
    auto wrong = [&](ErrorKind kind, const std::string& text) {
        return fail(kind, "image {}: {}", file.name(), text);
    };
    auto file_bytes = TRY(file.size());
    if (file_bytes < skippable_bytes + footer_bytes)
        return wrong(ErrorKind::invalid, "too short for a compressed image");
    std::vector<std::uint8_t> raw(footer_bytes);
    TRY(file.read(raw, file_bytes - footer_bytes));
    ByteReader footer{Bytes(raw)};
    auto count = footer.le<std::uint32_t>();
    auto descriptor = footer.le<std::uint8_t>();
    if (footer.le<std::uint32_t>() != footer_magic)
        return wrong(ErrorKind::invalid, "it has no table of frames at its end: compress it with "
                                         "\"vmhost image compress\"");
    if (descriptor & reserved_bits)
        return wrong(ErrorKind::unsupported, "its table of frames has unknown features");
    if (count == 0 || count > limits::max_zst_frames)
        return wrong(ErrorKind::limit,
                     fmt::format("{} frames: 1 to {} are possible", count, limits::max_zst_frames));
    const std::uint64_t row_bytes = descriptor & has_checksums ? 12 : 8;
    auto table_bytes = skippable_bytes + count * row_bytes + footer_bytes;
    if (table_bytes > file_bytes)
        return wrong(ErrorKind::corrupt, "its table of frames is longer than the file");
    raw.resize(table_bytes);
    TRY(file.read(raw, file_bytes - table_bytes));
    ByteReader table{Bytes(raw)};
    if (table.le<std::uint32_t>() != skippable_magic ||
        table.le<std::uint32_t>() != table_bytes - skippable_bytes)
        return wrong(ErrorKind::corrupt, "its table of frames does not begin where it should");
    std::vector<Frame> frames(count + std::size_t{1});
    for (std::size_t i = 0; i < count; ++i) {
        auto packed = table.le<std::uint32_t>(), plain = table.le<std::uint32_t>();
        table.skip(row_bytes - 8);
        if (packed == 0 || plain == 0 || plain > limits::max_zst_frame_bytes ||
            packed > ZSTD_compressBound(limits::max_zst_frame_bytes))
            return wrong(ErrorKind::limit,
                         fmt::format("frame {} has {} bytes for {}: at most {} are possible", i,
                                     packed, plain, limits::max_zst_frame_bytes));
        frames[i + 1] = {frames[i].start + plain, frames[i].place + packed};
    }
    if (frames.back().place != file_bytes - table_bytes)
        return wrong(ErrorKind::corrupt,
                     fmt::format("its frames end at {}, but its table begins at {}",
                                 frames.back().place, file_bytes - table_bytes));
    if (frames.back().start < sector_bytes || frames.back().start > limits::max_disk_bytes)
        return wrong(ErrorKind::limit, fmt::format("a disk of {} bytes: 512 to {} are possible",
                                                   frames.back().start, limits::max_disk_bytes));
    return frames;
}

class ZstImage final : public Image {
public:
    using Plain = std::shared_ptr<const std::vector<std::uint8_t>>;

    ZstImage(std::unique_ptr<Storage> file, std::vector<Frame> frames)
        : file_(std::move(file)), frames_(std::move(frames)) {}

    const std::string& name() const override { return file_->name(); }
    std::uint64_t size_bytes() const override { return frames_.back().start; }
    bool read_only() const override { return true; }

    Result<void> readv(std::span<const iovec> into, std::uint64_t offset) override {
        auto length = total_bytes(into);
        auto padding = (sector_bytes - size_bytes() % sector_bytes) % sector_bytes;
        if (!range_fits(offset, length, size_bytes() + padding))
            return fail(ErrorKind::invalid, "image {}: read of {} bytes at {}: past the end at {}",
                        name(), length, offset, size_bytes());
        Cursor cursor(into);
        auto end = std::min(offset + length, size_bytes());
        auto last = frames_.end() - 1;
        auto frame = std::ranges::upper_bound(frames_, offset, {}, &Frame::start) - 1;
        for (; frame != last && offset < end; ++frame) {
            auto plain = TRY(expanded(static_cast<std::size_t>(frame - frames_.begin())));
            auto part = std::min(end, frame[1].start) - offset;
            copy_to(cursor.take(part), plain->data() + (offset - frame->start));
            offset += part;
        }
        cursor.zero_rest();
        return {};
    }
    Result<void> writev(std::span<const iovec>, std::uint64_t offset) override {
        return fail(ErrorKind::denied, "image {}: write at {}: the image is read-only", name(),
                    offset);
    }
    Result<void> flush() override { return {}; }

private:
    Result<Plain> expanded(std::size_t index) {
        {
            std::scoped_lock guard(mutex_);
            auto found = std::ranges::find(kept_, index, &Kept::index);
            if (found != kept_.end()) {
                kept_.splice(kept_.begin(), kept_, found);
                return kept_.front().plain;
            }
        }
        // Two threads may expand the same frame at once; that costs time and nothing else.
        auto plain = TRY(expand(index));
        std::scoped_lock guard(mutex_);
        kept_.push_front({index, plain});
        std::uint64_t bytes = 0;
        for (auto each = kept_.begin(); each != kept_.end();) {
            bytes += each->plain->size();
            bool stays = each == kept_.begin() || bytes <= limits::zst_cache_bytes;
            each = stays ? std::next(each) : kept_.erase(each);
        }
        return plain;
    }

    Result<Plain> expand(std::size_t index) {
        const auto &frame = frames_[index], &next = frames_[index + 1];
        std::vector<std::uint8_t> packed(next.place - frame.place);
        auto plain = std::make_shared<std::vector<std::uint8_t>>(next.start - frame.start);
        TRY(file_->read(packed, frame.place));
        // Writes no byte past what the row allows, whatever the frame claims.
        auto made = ZSTD_decompress(plain->data(), plain->size(), packed.data(), packed.size());
        if (ZSTD_isError(made))
            return fail(ErrorKind::corrupt, "image {}: frame {} at {} does not expand: {}", name(),
                        index, frame.place, ZSTD_getErrorName(made));
        if (made != plain->size())
            return fail(ErrorKind::corrupt, "image {}: frame {} at {} has {} bytes, not {}", name(),
                        index, frame.place, made, plain->size());
        return plain;
    }

    struct Kept {
        std::size_t index;
        Plain plain;
    };
    std::unique_ptr<Storage> file_;
    std::vector<Frame> frames_;
    std::mutex mutex_;
    std::list<Kept> kept_; // used last first
};

// Reads and compresses frames on threads of its own; takes them in order.
class Compressor {
public:
    Compressor(Image& from, int level) : from_(from), level_(level) {
        auto count = std::clamp(std::thread::hardware_concurrency(), 1U, 64U);
        ahead_ = 2 * count;
        for (unsigned i = 0; i < count; ++i)
            threads_.emplace_back([this] { work(); });
    }
    ~Compressor() {
        {
            std::scoped_lock guard(mutex_);
            next_ = frames();
        }
        changed_.notify_all();
    }
    std::uint64_t frames() const {
        return (from_.size_bytes() + limits::zst_frame_bytes - 1) / limits::zst_frame_bytes;
    }
    std::uint64_t length_of(std::uint64_t frame) const {
        return std::min(limits::zst_frame_bytes,
                        from_.size_bytes() - frame * limits::zst_frame_bytes);
    }
    Result<std::vector<std::uint8_t>> take(std::uint64_t frame) {
        std::unique_lock guard(mutex_);
        changed_.wait(guard, [&] { return ready_.contains(frame); });
        auto found = ready_.extract(frame);
        taken_ = frame + 1;
        changed_.notify_all();
        return std::move(found.mapped());
    }

private:
    void work() {
        for (;;) {
            std::uint64_t frame = 0;
            {
                std::unique_lock guard(mutex_);
                changed_.wait(guard, [&] { return next_ >= frames() || next_ < taken_ + ahead_; });
                if (next_ >= frames())
                    return;
                frame = next_++;
            }
            auto packed = pack(frame);
            std::scoped_lock guard(mutex_);
            ready_.emplace(frame, std::move(packed));
            changed_.notify_all();
        }
    }
    Result<std::vector<std::uint8_t>> pack(std::uint64_t frame) {
        std::vector<std::uint8_t> plain(length_of(frame)), packed(ZSTD_compressBound(plain.size()));
        iovec vector{plain.data(), plain.size()};
        TRY(from_.readv({&vector, 1}, frame * limits::zst_frame_bytes));
        std::unique_ptr<ZSTD_CCtx, decltype(&ZSTD_freeCCtx)> context(ZSTD_createCCtx(),
                                                                     ZSTD_freeCCtx);
        if (!context)
            return fail(ErrorKind::limit, "image {}: no memory to compress it", from_.name());
        ZSTD_CCtx_setParameter(context.get(), ZSTD_c_compressionLevel, level_);
        ZSTD_CCtx_setParameter(context.get(), ZSTD_c_checksumFlag, 1);
        auto made =
            ZSTD_compress2(context.get(), packed.data(), packed.size(), plain.data(), plain.size());
        if (ZSTD_isError(made))
            return fail(ErrorKind::internal, "image {}: compress: {}", from_.name(),
                        ZSTD_getErrorName(made));
        packed.resize(made);
        return packed;
    }

    Image& from_;
    int level_;
    std::uint64_t ahead_;
    std::mutex mutex_;
    std::condition_variable changed_;
    std::uint64_t next_ = 0, taken_ = 0;
    std::map<std::uint64_t, Result<std::vector<std::uint8_t>>> ready_;
    std::vector<std::jthread> threads_;
};

} // namespace

Result<std::unique_ptr<Image>> Image::open_zst(Fd fd, std::string name) {
    auto file = file_storage(std::move(fd), std::move(name));
    auto frames = TRY(read_table(*file));
    return std::make_unique<ZstImage>(std::move(file), std::move(frames));
}

Result<std::uint64_t> compress(const ImageName& source, const std::string& path, int level,
                               const Progress& progress) {
    if (level < 1 || level > ZSTD_maxCLevel())
        return fail(ErrorKind::invalid, "a level of {}: 1 to {} are possible", level,
                    ZSTD_maxCLevel());
    auto layers = TRY(open_chain(source.path, source.format, true, true));
    auto from = TRY(Image::open(std::move(layers), true));
    auto frames = (from->size_bytes() + limits::zst_frame_bytes - 1) / limits::zst_frame_bytes;
    if (frames > limits::max_zst_frames)
        return fail(ErrorKind::limit, "image {}: {} bytes are too many for a compressed image",
                    source.path, from->size_bytes());
    auto target = TRY(NewFile::create(path));
    auto to = file_storage(TRY(target.file().duplicate()), path);
    ByteWriter table;
    table.le(skippable_magic);
    table.le(static_cast<std::uint32_t>(frames * 8 + footer_bytes));
    std::uint64_t place = 0;
    {
        Compressor compressor(*from, level);
        for (std::uint64_t frame = 0; frame < frames; ++frame) {
            auto packed = TRY(compressor.take(frame));
            TRY(to->write(packed, place));
            place += packed.size();
            table.le(static_cast<std::uint32_t>(packed.size()));
            table.le(static_cast<std::uint32_t>(compressor.length_of(frame)));
            if (progress)
                progress(frame * limits::zst_frame_bytes + compressor.length_of(frame),
                         from->size_bytes());
        }
    }
    table.le(static_cast<std::uint32_t>(frames));
    table.le<std::uint8_t>(0);
    table.le(footer_magic);
    TRY(to->write(table.buffer(), place));
    TRY(to->sync());
    TRY(target.keep());
    return place + table.size();
}

} // namespace vmhost::disk
