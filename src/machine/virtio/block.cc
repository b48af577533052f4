// A request is a chain of 16 readable bytes {u32 type, u32 reserved, u64 sector}, data in the
// direction of the type, and one writable status byte at the very end (5.2.6).
#include "machine/virtio/block.h"

#include <algorithm>
#include <mutex>

namespace vmhost::machine::virtio {

namespace {

constexpr std::uint64_t sector_bytes = 512;
constexpr std::uint64_t header_bytes = 16;

constexpr std::uint64_t feature_seg_max = 1 << 2, feature_read_only = 1 << 5,
                        feature_block_size = 1 << 6, feature_flush = 1 << 9;

enum Type : std::uint32_t { in = 0, out = 1, flush = 4, get_id = 8 };
enum Status : std::uint8_t { ok = 0, io_error = 1, unsupported = 2 };

} // namespace

struct Block::Request {
    explicit Request(Chain taken) : chain(std::move(taken)) {}
    Chain chain;
    Io io;
    std::uint64_t data_bytes = 0;
    std::vector<iovec> data;
};

Block::Block(std::string name, disk::Image& image, std::string serial, Loop& loop, Bus::Lock& lock)
    : name_(std::move(name)), image_(image), loop_(loop), lock_(lock),
      capacity_sectors_(image.size_bytes() / sector_bytes),
      again_(loop,
             [this] {
                 std::scoped_lock guard(lock_);
                 if (notify(0))
                     again_.wake();
             }),
      io_(disk::IoQueue::create(loop, image)) {
    std::ranges::copy(as_bytes(serial).first(std::min(serial.size(), serial_.size())),
                      serial_.begin());
    // struct virtio_blk_config (5.2.4): capacity, size_max, seg_max, geometry, blk_size.
    MutableBytes config(config_);
    store_le<std::uint64_t>(config, capacity_sectors_);
    store_le<std::uint32_t>(config.subspan(12), queue_size - 2); // without header and status
    store_le<std::uint32_t>(config.subspan(20), sector_bytes);
}

std::uint64_t Block::features() const {
    return feature_seg_max | feature_block_size | feature_flush |
           (image_.read_only() ? feature_read_only : 0);
}

void Block::activate(std::uint64_t driver_features, std::vector<Queue*> queues) {
    requests_ = queues.at(0);
    write_through_ = !(driver_features & feature_flush); // 5.2.6.2
}

bool Block::quiescent() const {
    return io_->running() == 0;
}

bool Block::notify(std::uint16_t) {
    if (requests_ == nullptr || paused_)
        return false;
    bool more = take_requests();
    io_->commit();
    requests_->signal_used();
    return more;
}

// True when the turn's share is used up and there may be more.
bool Block::take_requests() {
    requests_->want_notifications(false);
    for (unsigned taken = 0; taken < limits::max_requests_per_turn; ++taken) {
        throttled_ = outstanding_ >= queue_size;
        if (throttled_)
            return false;
        auto chain = requests_->pop_or_wait();
        if (!chain)
            return false;
        start(std::move(*chain));
    }
    return true;
}

void Block::start(Chain chain) {
    std::uint8_t raw[header_bytes];
    if (chain.writable_bytes() == 0 || chain.read(0, raw) != sizeof(raw)) {
        ++malformed_; // no header, or no place for the status: nothing can be said
        return chain.complete(0);
    }
    ByteReader header{Bytes(raw)};
    auto type = header.le<std::uint32_t>();
    header.skip(4);
    auto sector = header.le<std::uint64_t>();
    switch (type) {
    case Type::in:
    case Type::out:
        return transfer(std::move(chain), type == Type::out, sector);
    case Type::flush: {
        return submit(std::make_shared<Request>(std::move(chain)));
    }
    case Type::get_id:
        return identify(std::move(chain));
    default:
        return answer(std::move(chain), unsupported);
    }
}

void Block::transfer(Chain chain, bool write, std::uint64_t sector) {
    auto length = write ? chain.readable_bytes() - header_bytes : chain.writable_bytes() - 1;
    if (length % sector_bytes != 0 || length > limits::max_block_request_bytes ||
        !range_fits(sector, length / sector_bytes, capacity_sectors_) ||
        (write && image_.read_only()))
        return answer(std::move(chain), io_error);
    auto request = std::make_shared<Request>(std::move(chain));
    request->io.kind = write ? Io::Kind::write : Io::Kind::read;
    request->io.offset_bytes = sector * sector_bytes;
    request->io.make_stable = write && write_through_;
    request->data_bytes = length;
    if (write)
        request->chain.gather_readable(header_bytes, length, request->data);
    else
        request->chain.gather_writable(0, length, request->data);
    request->io.data = request->data;
    submit(std::move(request));
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

void Block::submit(std::shared_ptr<Request> request) {
    ++outstanding_;
    const auto& io = request->io;
    io_->submit(io, [this, request](Result<void> result) { finish(*request, std::move(result)); });
}

void Block::finish(Request& request, Result<void> result) {
    std::scoped_lock guard(lock_);
    --outstanding_;
    bool read = request.io.kind == Io::Kind::read;
    // Also when a reset came in between, and after an error that came half-way.
    if (read)
        request.chain.report_written(0, request.data_bytes);
    if (!result) {
        note_failure(result.error());
        answer(std::move(request.chain), io_error);
    } else {
        counters_.read_bytes += read ? request.data_bytes : 0;
        counters_.written_bytes += request.io.kind == Io::Kind::write ? request.data_bytes : 0;
        counters_.flushes += request.io.kind == Io::Kind::flush || request.io.make_stable;
        answer(std::move(request.chain), ok, read ? request.data_bytes : 0);
    }
    if (requests_ == nullptr)
        return;
    if (throttled_ && !paused_) {
        if (take_requests())
            again_.wake();
        io_->commit();
    }
    requests_->signal_used();
}

void Block::note_failure(const Error& error) {
    ++counters_.failed;
    if (!std::exchange(failure_logged_, true))
        log::error("virtio", "{}: {}; the guest gets I/O errors, further ones are only counted",
                   name_, error.text());
}

} // namespace vmhost::machine::virtio
