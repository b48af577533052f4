// A request is a chain of 16 readable bytes {u32 type, u32 reserved, u64 sector}, data in the
// direction of the type, and one writable status byte at the very end (5.2.6). The data of
// discard and write-zeroes are ranges of 16 bytes {u64 sector, u32 sectors, u32 flags}.
#include "machine/virtio/block.h"

#include <algorithm>
#include <mutex>

namespace vmhost::machine::virtio {

namespace {

constexpr std::uint64_t sector_bytes = 512;
constexpr std::uint64_t header_bytes = 16, range_bytes = 16;

constexpr std::uint64_t feature_seg_max = 1 << 2, feature_read_only = 1 << 5,
                        feature_block_size = 1 << 6, feature_flush = 1 << 9,
                        feature_topology = 1 << 10, feature_config_wce = 1 << 11,
                        feature_multi_queue = 1 << 12, feature_discard = 1 << 13,
                        feature_write_zeroes = 1 << 14;

enum Type : std::uint32_t {
    in = 0,
    out = 1,
    flush = 4,
    get_id = 8,
    discard = 11,
    write_zeroes = 13
};
enum Status : std::uint8_t { ok = 0, io_error = 1, unsupported = 2 };
constexpr std::uint32_t flag_unmap = 1;

// struct virtio_blk_config (5.2.4).
enum Field : std::size_t {
    capacity = 0,
    seg_max = 12,
    block_size = 20,
    physical_block_exponent = 24,
    min_io_blocks = 26,
    writeback = 32,
    queue_count = 34,
    max_discard_sectors = 36,
    max_discard_ranges = 40,
    discard_alignment = 44,
    max_write_zeroes_sectors = 48,
    max_write_zeroes_ranges = 52,
    write_zeroes_may_unmap = 56,
};
// Filesystems of hosts allocate 4 KiB: what is not a multiple of it is read before it is written.
constexpr std::uint8_t block_exponent = 3;
constexpr std::uint32_t sectors_per_block = 1 << block_exponent;

} // namespace

struct Block::Request {
    Request(Chain taken, std::uint16_t from) : chain(std::move(taken)), source(from) {}
    Chain chain;
    std::uint16_t source; // index of the queue
    std::vector<Io> parts;
    std::size_t pending = 0;      // parts that are not done
    std::uint64_t data_bytes = 0; // of read and write
    std::vector<iovec> data;
    bool failed = false;
};

Block::Block(Settings settings, disk::Image& image, Loop& loop, Bus::Lock& lock, Clock& clock)
    : name_(std::move(settings.name)), image_(&image), loop_(loop), lock_(lock), clock_(clock),
      capacity_sectors_(image.size_bytes() / sector_bytes),
      sources_(std::clamp(settings.queues, 1U, limits::max_block_queues)),
      throttle_(clock, settings.limit, [this] { again_.wake(); }),
      again_(loop, [this] { serve_all(); }), io_(make_queue()) {
    auto serial = as_bytes(settings.serial);
    std::ranges::copy(serial.first(std::min(serial.size(), serial_.size())), serial_.begin());
    auto put = [this]<WireInteger T>(Field field, T value) {
        store_le<T>(MutableBytes(config_).subspan(field), value);
    };
    put(capacity, capacity_sectors_);
    put(seg_max, std::uint32_t{queue_size - 2}); // without header and status
    put(block_size, static_cast<std::uint32_t>(sector_bytes));
    put(physical_block_exponent, block_exponent);
    put(min_io_blocks, std::uint16_t{sectors_per_block});
    put(writeback, std::uint8_t{1});
    put(queue_count, static_cast<std::uint16_t>(sources_.size()));
    if (image.read_only())
        return;
    put(max_discard_sectors, limits::max_discard_sectors);
    put(max_discard_ranges, limits::max_discard_ranges);
    put(discard_alignment, sectors_per_block);
    put(max_write_zeroes_sectors, limits::max_write_zeroes_sectors);
    put(max_write_zeroes_ranges, std::uint32_t{1});
    put(write_zeroes_may_unmap, std::uint8_t{1});
}

void Block::use(disk::Image& image) {
    io_.reset();
    image_ = &image;
    io_ = make_queue();
}

std::unique_ptr<disk::IoQueue> Block::make_queue() {
    return disk::IoQueue::create(loop_, *image_,
                                 {.may_wait = true, .served = [this] { serve_all(); }});
}

std::uint64_t Block::features() const {
    return feature_seg_max | feature_block_size | feature_flush | feature_topology |
           feature_config_wce | (sources_.size() > 1 ? feature_multi_queue : 0) |
           (image_->read_only() ? feature_read_only : feature_discard | feature_write_zeroes);
}

std::vector<std::uint16_t> Block::queue_sizes() const {
    return std::vector<std::uint16_t>(sources_.size(), queue_size);
}

// One byte of it is the driver's, when it has taken CONFIG_WCE.
void Block::write_config(std::uint64_t offset, Bytes data) {
    if (offset != writeback || data.size() != 1)
        return;
    config_[writeback] = data[0] & 1;
    if (active_)
        write_through_ = config_[writeback] == 0;
}

// 5.2.5.2: the cache is a write-back one after the negotiation only when the driver can flush.
void Block::activate(std::uint64_t driver_features, std::vector<Queue*> queues) {
    for (std::size_t i = 0; i < sources_.size(); ++i)
        sources_[i].queue = queues.at(i);
    if (!(driver_features & feature_flush))
        config_[writeback] = 0;
    else if (!(driver_features & feature_config_wce))
        config_[writeback] = 1;
    write_through_ = config_[writeback] == 0;
    active_ = true;
}

void Block::reset() {
    for (auto& source : sources_)
        source.queue = nullptr;
    active_ = false;
    config_[writeback] = 1;
}

void Block::state(StateArchive& archive) {
    archive.same(capacity_sectors_, "number of sectors");
    archive.at_most(config_[writeback], std::uint8_t{1}, "cache mode");
    if (archive.loading() && active_)
        write_through_ = config_[writeback] == 0;
}

bool Block::quiescent() const {
    return io_->running() == 0;
}

unsigned Block::outstanding() const {
    unsigned sum = 0;
    for (const auto& source : sources_)
        sum += source.outstanding;
    return sum;
}

bool Block::notify(std::uint16_t queue) {
    bool more = serve(queue);
    io_->commit();
    return more;
}

void Block::serve_all() {
    std::scoped_lock guard(lock_);
    for (std::uint16_t i = 0; i < sources_.size(); ++i)
        if (serve(i))
            again_.wake();
    io_->commit();
}

bool Block::serve(std::uint16_t index) {
    auto& source = sources_.at(index);
    if (source.queue == nullptr || paused_)
        return false;
    bool more = take_requests(index);
    source.queue->signal_used();
    return more;
}

// True when the turn's share is used up and there may be more.
bool Block::take_requests(std::uint16_t index) {
    auto& source = sources_[index];
    source.queue->want_notifications(false);
    for (unsigned taken = 0; taken < limits::max_requests_per_turn; ++taken) {
        source.full = source.outstanding >= queue_size;
        if (source.full || !throttle_.admit())
            return false;
        // While requests are moved nobody need ask: served() looks again, and then waits.
        auto chain = io_->at_hand() > 0 ? source.queue->pop() : source.queue->pop_or_wait();
        if (!chain)
            return false;
        start(std::move(*chain), index);
    }
    return true;
}

void Block::start(Chain chain, std::uint16_t source) {
    std::uint8_t raw[header_bytes];
    if (chain.writable_bytes() == 0 || chain.read(0, raw) != sizeof(raw)) {
        ++malformed_; // no header, or no place for the status: nothing can be said
        throttle_.take(0);
        return chain.complete(0);
    }
    ByteReader header{Bytes(raw)};
    auto type = header.le<std::uint32_t>();
    header.skip(4);
    auto sector = header.le<std::uint64_t>();
    throttle_.take(type == Type::in    ? chain.writable_bytes() - 1
                   : type == Type::out ? chain.readable_bytes() - header_bytes
                                       : 0);
    switch (type) {
    case Type::in:
    case Type::out:
        return transfer(std::move(chain), source, type == Type::out, sector);
    case Type::flush: {
        auto request = std::make_shared<Request>(std::move(chain), source);
        request->parts.push_back({.kind = Io::Kind::flush});
        return submit(std::move(request));
    }
    case Type::get_id:
        return identify(std::move(chain));
    case Type::discard:
        return change_ranges(std::move(chain), source, Io::Kind::discard);
    case Type::write_zeroes:
        return change_ranges(std::move(chain), source, Io::Kind::write_zeroes);
    default:
        return answer(std::move(chain), unsupported);
    }
}

void Block::transfer(Chain chain, std::uint16_t source, bool write, std::uint64_t sector) {
    auto length = write ? chain.readable_bytes() - header_bytes : chain.writable_bytes() - 1;
    if (length % sector_bytes != 0 || length > limits::max_block_request_bytes ||
        !range_fits(sector, length / sector_bytes, capacity_sectors_) ||
        (write && image_->read_only()))
        return answer(std::move(chain), io_error);
    auto request = std::make_shared<Request>(std::move(chain), source);
    request->data_bytes = length;
    if (write)
        request->chain.gather_readable(header_bytes, length, request->data);
    else
        request->chain.gather_writable(0, length, request->data);
    request->parts.push_back({.kind = write ? Io::Kind::write : Io::Kind::read,
                              .make_stable = write && write_through_,
                              .offset_bytes = sector * sector_bytes,
                              .data = request->data});
    submit(std::move(request));
}

void Block::change_ranges(Chain chain, std::uint16_t source, Io::Kind kind) {
    std::vector<Io> parts;
    auto status = read_ranges(chain, kind, parts);
    if (status != ok || parts.empty())
        return answer(std::move(chain), status);
    auto request = std::make_shared<Request>(std::move(chain), source);
    request->parts = std::move(parts);
    submit(std::move(request));
}

// The status with which the request is refused, or ok.
std::uint8_t Block::read_ranges(const Chain& chain, Io::Kind kind, std::vector<Io>& into) const {
    bool zeroes = kind == Io::Kind::write_zeroes;
    auto length = chain.readable_bytes() - header_bytes;
    auto most = zeroes ? 1 : limits::max_discard_ranges;
    if (image_->read_only() || length % range_bytes != 0 || length / range_bytes > most)
        return io_error;
    for (std::uint64_t at = 0; at < length; at += range_bytes) {
        std::uint8_t raw[range_bytes];
        chain.read(header_bytes + at, raw);
        ByteReader range{Bytes(raw)};
        auto sector = range.le<std::uint64_t>();
        auto sectors = range.le<std::uint32_t>();
        auto flags = range.le<std::uint32_t>();
        if ((flags & ~flag_unmap) != 0 || (flags != 0 && !zeroes))
            return unsupported; // 5.2.6.2
        if (sectors > (zeroes ? limits::max_write_zeroes_sectors : limits::max_discard_sectors) ||
            !range_fits(sector, sectors, capacity_sectors_))
            return io_error;
        if (sectors != 0)
            into.push_back({.kind = kind,
                            .may_unmap = (flags & flag_unmap) != 0,
                            .make_stable = zeroes && write_through_,
                            .offset_bytes = sector * sector_bytes,
                            .length_bytes = sectors * sector_bytes});
    }
    return ok;
}

void Block::identify(Chain chain) {
    auto room = std::min<std::uint64_t>(chain.writable_bytes() - 1, serial_.size());
    chain.write(0, Bytes(serial_).first(room));
    answer(std::move(chain), ok, room);
}

// The status goes in after the data, the chain back after the status.
void Block::answer(Chain chain, std::uint8_t status, std::uint64_t data_bytes) {
    if (chain.alive())
        chain.write(chain.writable_bytes() - 1, Bytes(&status, 1));
    chain.complete(static_cast<std::uint32_t>(data_bytes + 1));
}

// The one place where work is handed to the image. Commit follows when the turn's requests are in.
void Block::submit(std::shared_ptr<Request> request) {
    ++sources_[request->source].outstanding;
    request->pending = request->parts.size();
    for (const auto& part : request->parts)
        io_->submit(
            part, [this, request](Result<void> result) { part_done(*request, std::move(result)); });
}

void Block::part_done(Request& request, Result<void> result) {
    std::scoped_lock guard(lock_);
    if (!result)
        note_failure(result.error());
    request.failed = request.failed || !result;
    if (--request.pending == 0)
        finish(request);
}

void Block::finish(Request& request) {
    auto& source = sources_[request.source];
    --source.outstanding;
    bool read = request.parts.front().kind == Io::Kind::read;
    // Also when a reset came in between, and after an error that came half-way.
    if (read)
        request.chain.report_written(0, request.data_bytes);
    if (!request.failed)
        count(request);
    answer(std::move(request.chain), request.failed ? io_error : ok,
           read && !request.failed ? request.data_bytes : 0);
    if (source.queue == nullptr)
        return;
    if (source.full && !paused_) {
        if (take_requests(request.source))
            again_.wake();
        io_->commit();
    }
    source.queue->signal_used();
}

void Block::count(const Request& request) {
    for (const auto& part : request.parts) {
        switch (part.kind) {
        case Io::Kind::read:
            ++counters_.reads;
            counters_.read_bytes += request.data_bytes;
            break;
        case Io::Kind::write:
            ++counters_.writes;
            counters_.written_bytes += request.data_bytes;
            break;
        case Io::Kind::flush:
            ++counters_.flushes;
            break;
        case Io::Kind::discard:
            counters_.discarded_bytes += part.length_bytes;
            break;
        case Io::Kind::write_zeroes:
            counters_.zeroed_bytes += part.length_bytes;
            break;
        }
        counters_.flushes += part.make_stable;
    }
}

// Each request's error goes to the guest; the journal gets one line in a while.
void Block::note_failure(const Error& error) {
    constexpr std::uint64_t interval_ns = limits::io_failure_log_interval_ms * 1'000'000;
    ++counters_.failed;
    if (clock_.now_ns() < next_failure_log_ns_) {
        ++unlogged_failures_;
        return;
    }
    next_failure_log_ns_ = clock_.now_ns() + interval_ns;
    ++failure_log_lines_;
    auto before = std::exchange(unlogged_failures_, 0);
    log::error("virtio", "{}: {}; the guest gets an I/O error{}", name_, error.text(),
               before == 0 ? std::string() : fmt::format(" ({} more since the last line)", before));
}

} // namespace vmhost::machine::virtio
