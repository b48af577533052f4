// A request is a chain of 16 readable bytes {u32 type, u32 reserved, u64 sector}, data in the
// direction of the type, and one writable status byte at the very end (5.2.6).
#include "machine/virtio/block.h"

#include <algorithm>
#include <condition_variable>
#include <mutex>
#include <optional>

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
    Type type = Type::flush;
    std::uint64_t offset_bytes = 0, data_bytes = 0;
    std::vector<iovec> data;
    bool make_stable = false;
    std::optional<Error> error;

    // On a pool thread.
    void run(disk::Image& image) {
        Result<void> result;
        if (type == Type::in)
            result = image.readv(data, offset_bytes);
        else if (type == Type::out)
            result = image.writev(data, offset_bytes);
        if (result && make_stable)
            result = image.flush();
        if (!result)
            error = std::move(result).error();
    }
};

// What jobs and the device share; jobs may outlive the device.
struct Block::Pool {
    std::mutex mutex;
    std::condition_variable changed;
    unsigned running = 0;    // jobs handed over that have not come to their end
    bool cancelled = false;  // jobs that have not begun do nothing
    Block* device = nullptr; // loop thread only; null when the device is gone
};

Block::Block(std::string name, disk::Image& image, std::string serial, Loop& loop, Bus::Lock& lock)
    : name_(std::move(name)), image_(image), loop_(loop), lock_(lock),
      capacity_sectors_(image.size_bytes() / sector_bytes), pool_(std::make_shared<Pool>()),
      again_(loop, [this] {
          std::scoped_lock guard(lock_);
          if (notify(0))
              again_.wake();
      }) {
    pool_->device = this;
    std::ranges::copy(as_bytes(serial).first(std::min(serial.size(), serial_.size())),
                      serial_.begin());
    // struct virtio_blk_config (5.2.4): capacity, size_max, seg_max, geometry, blk_size.
    MutableBytes config(config_);
    store_le<std::uint64_t>(config, capacity_sectors_);
    store_le<std::uint32_t>(config.subspan(12), queue_size - 2); // without header and status
    store_le<std::uint32_t>(config.subspan(20), sector_bytes);
}

Block::~Block() {
    pool_->device = nullptr;
    std::unique_lock guard(pool_->mutex);
    pool_->cancelled = true;
    pool_->changed.wait(guard, [this] { return pool_->running == 0; });
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
    std::scoped_lock guard(pool_->mutex);
    return pool_->running == 0;
}

bool Block::notify(std::uint16_t) {
    if (requests_ == nullptr || paused_)
        return false;
    bool more = take_requests();
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
        auto request = std::make_shared<Request>(std::move(chain));
        request->make_stable = true;
        return submit(std::move(request));
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
    request->type = write ? Type::out : Type::in;
    request->offset_bytes = sector * sector_bytes;
    request->data_bytes = length;
    request->make_stable = write && write_through_;
    if (write)
        request->chain.gather_readable(header_bytes, length, request->data);
    else
        request->chain.gather_writable(0, length, request->data);
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
    {
        std::scoped_lock guard(pool_->mutex);
        ++pool_->running;
    }
    auto job = [pool = pool_, request, &image = image_] {
        bool cancelled = false;
        {
            std::scoped_lock guard(pool->mutex);
            cancelled = pool->cancelled;
        }
        if (!cancelled)
            request->run(image);
        std::scoped_lock guard(pool->mutex);
        --pool->running;
        pool->changed.notify_all();
    };
    loop_.work(std::move(job), [pool = pool_, request] {
        if (pool->device != nullptr)
            pool->device->finish(*request);
    });
}

void Block::finish(Request& request) {
    std::scoped_lock guard(lock_);
    --outstanding_;
    // Also when a reset came in between, and after an error that came half-way.
    if (request.type == Type::in)
        request.chain.report_written(0, request.data_bytes);
    if (request.error) {
        note_failure(*request.error);
        answer(std::move(request.chain), io_error);
    } else {
        counters_.read_bytes += request.type == Type::in ? request.data_bytes : 0;
        counters_.written_bytes += request.type == Type::out ? request.data_bytes : 0;
        counters_.flushes += request.make_stable;
        answer(std::move(request.chain), ok, request.type == Type::in ? request.data_bytes : 0);
    }
    if (requests_ == nullptr)
        return;
    if (throttled_ && !paused_ && take_requests())
        again_.wake();
    requests_->signal_used();
}

void Block::note_failure(const Error& error) {
    ++counters_.failed;
    if (!std::exchange(failure_logged_, true))
        log::error("virtio", "{}: {}; the guest gets I/O errors, further ones are only counted",
                   name_, error.text());
}

} // namespace vmhost::machine::virtio
