// The rings in guest memory, for a queue of n entries:
//
//   descriptors  16 n bytes, aligned 16: u64 address, u32 length, u16 flags, u16 next
//   available    6 + 2 n, aligned 2: u16 flags, u16 index, n × u16 head, u16 used_event
//   used         6 + 8 n, aligned 4: u16 flags, u16 index, n × {u32 id, u32 length},
//                u16 avail_event
//
// The two indexes are what driver and device synchronise on: loaded with acquire,
// stored with release. Deciding about a notification after publishing needs a full
// barrier in between (2.7.13.4.1), on both sides.
//
// Under the device lock, as the header says.
#include "machine/virtio/queue.h"

#include <algorithm>
#include <atomic>
#include <bit>

namespace vmhost::machine::virtio {

namespace {

constexpr std::uint16_t flag_next = 1, flag_write = 2, flag_indirect = 4;
constexpr std::uint16_t available_no_interrupt = 1;
constexpr std::uint16_t used_no_notify = 1;
constexpr std::uint64_t descriptor_bytes = 16;

// Has an event index been passed on the way from before to now? (2.7.10)
bool event_passed(std::uint16_t event, std::uint16_t now, std::uint16_t before) {
    return static_cast<std::uint16_t>(now - event - 1) < static_cast<std::uint16_t>(now - before);
}

// Calls visit(gpa, length) for each piece of [offset, offset + length) of the segments.
template <class Visit>
std::uint64_t for_each_piece(std::span<const Segment> segments, std::uint64_t offset,
                             std::uint64_t length, Visit visit) {
    std::uint64_t done = 0;
    for (const auto& segment : segments) {
        if (length == 0)
            break;
        if (offset >= segment.length) {
            offset -= segment.length;
            continue;
        }
        auto count = std::min(segment.length - offset, length);
        visit(segment.address + offset, count);
        done += count;
        length -= count;
        offset = 0;
    }
    return done;
}

} // namespace

Chain::Chain(std::shared_ptr<Queue*> home, std::uint16_t head, std::uint16_t position,
             std::uint64_t generation, std::vector<Segment> storage)
    : home_(std::move(home)), head_(head), position_(position), generation_(generation),
      segments_(std::move(storage)) {}

Chain::Chain(Chain&& other) noexcept
    : home_(std::move(other.home_)), head_(other.head_), position_(other.position_),
      generation_(other.generation_), segments_(std::move(other.segments_)),
      readable_count_(std::exchange(other.readable_count_, 0)),
      readable_bytes_(std::exchange(other.readable_bytes_, 0)),
      writable_bytes_(std::exchange(other.writable_bytes_, 0)) {
    other.segments_.clear();
}

Chain::~Chain() {
    complete(0);
    if (auto* home = queue())
        home->recycle(std::move(segments_));
}

bool Chain::alive() const {
    auto* home = queue();
    return home != nullptr && home->generation_ == generation_;
}

std::size_t Chain::read(std::uint64_t offset, MutableBytes into) const {
    if (!alive())
        return 0;
    std::size_t at = 0;
    for_each_piece(readable(), offset, into.size(), [&](Gpa gpa, std::uint64_t count) {
        queue()->memory_.read(gpa, into.subspan(at, count));
        at += count;
    });
    return at;
}

std::size_t Chain::write(std::uint64_t offset, Bytes from) {
    if (!alive())
        return 0;
    std::size_t at = 0;
    for_each_piece(writable(), offset, from.size(), [&](Gpa gpa, std::uint64_t count) {
        queue()->memory_.write(gpa, from.subspan(at, count));
        at += count;
    });
    return at;
}

void Chain::gather_readable(std::uint64_t offset, std::uint64_t length,
                            std::vector<iovec>& into) const {
    if (!alive())
        return;
    for_each_piece(readable(), offset, length, [&](Gpa gpa, std::uint64_t count) {
        if (auto bytes = queue()->memory_.slice(gpa, count))
            into.push_back({bytes->data(), bytes->size()});
    });
}

void Chain::gather_writable(std::uint64_t offset, std::uint64_t length, std::vector<iovec>& into) {
    if (!alive())
        return;
    for_each_piece(writable(), offset, length, [&](Gpa gpa, std::uint64_t count) {
        if (auto bytes = queue()->memory_.slice(gpa, count))
            into.push_back({bytes->data(), bytes->size()});
    });
}

void Chain::report_written(std::uint64_t offset, std::uint64_t length) {
    if (auto* home = queue())
        for_each_piece(writable(), offset, length,
                       [&](Gpa gpa, std::uint64_t count) { home->memory_.written(gpa, count); });
}

void Chain::complete(std::uint32_t written_bytes) {
    auto* home = queue();
    if (home == nullptr)
        return;
    if (home->generation_ == generation_)
        home->put_used(head_, written_bytes);
    home->recycle(std::move(segments_));
    segments_.clear();
    readable_count_ = 0;
    readable_bytes_ = writable_bytes_ = 0;
    home_.reset();
}

struct Queue::Descriptor {
    Gpa address = 0;
    std::uint32_t length = 0;
    std::uint16_t flags = 0;
    std::uint16_t next = 0;
};

Queue::Queue(GuestMemory& memory, std::uint16_t max_size)
    : memory_(memory), self_(std::make_shared<Queue*>(this)), max_size_(max_size), size_(max_size) {
}

Queue::~Queue() {
    *self_ = nullptr;
}

bool Queue::set_size(std::uint16_t size) {
    if (enabled_ || size == 0 || size > max_size_ || !std::has_single_bit(size))
        return false;
    size_ = size;
    return true;
}

bool Queue::rings_fit(const QueueAddresses& addresses) const {
    auto placed = [&](Gpa start, std::uint64_t length, std::uint64_t alignment) {
        return start % alignment == 0 && memory_.slice(start, length).has_value();
    };
    return placed(addresses.descriptors, descriptor_bytes * size_, 16) &&
           placed(addresses.available, 6 + 2ULL * size_, 2) &&
           placed(addresses.used, 6 + 8ULL * size_, 4);
}

bool Queue::enable(const QueueAddresses& addresses) {
    if (enabled_ || !rings_fit(addresses))
        return false;
    addresses_ = addresses;
    next_available_ = next_used_ = signalled_used_ = 0;
    enabled_ = true;
    return true;
}

std::optional<Queue::Rings> Queue::rings() const {
    if (!enabled_ || broken_ || !dma_ || in_flight_ != 0)
        return std::nullopt;
    auto descriptors = memory_.slice(addresses_.descriptors, descriptor_bytes * size_);
    auto available = memory_.slice(addresses_.available, 6 + 2ULL * size_);
    auto used = memory_.slice(addresses_.used, 6 + 8ULL * size_);
    if (!descriptors || !available || !used)
        return std::nullopt; // cannot be: checked by enable()
    return Rings{size_, next_available_, descriptors->data(), available->data(), used->data()};
}

// How far that was stands in the ring, where the driver can have written something else: then the
// next index that it publishes is one that cannot be.
void Queue::served_by_others() {
    next_available_ = next_used_ = signalled_used_ = load_index(addresses_.used + 2);
}

void Queue::state(StateArchive& archive) {
    if (!archive.loading() && in_flight_ != held_back_.size())
        archive.refuse(fmt::format("{} requests are in flight", in_flight_ - held_back_.size()),
                       ErrorKind::busy);
    archive(size_, enabled_, event_index_, indirect_, broken_, addresses_);
    archive(next_available_, next_used_, signalled_used_);
    archive.list(held_back_, max_size_, "completions");
    in_flight_ = static_cast<std::uint16_t>(held_back_.size());
    if (!archive.loading() || !archive.ok())
        return;
    bool possible = std::has_single_bit(size_) && size_ <= max_size_;
    if (!possible || (enabled_ && !rings_fit(addresses_))) {
        archive.refuse(fmt::format("a queue of {} entries cannot be where it is", size_));
        size_ = max_size_;
        enabled_ = false;
    }
}

void Queue::reset() {
    ++generation_; // chains in flight go nowhere from here on
    size_ = max_size_;
    enabled_ = broken_ = event_index_ = indirect_ = holding_ = false;
    addresses_ = {};
    next_available_ = next_used_ = signalled_used_ = in_flight_ = 0;
    held_back_.clear();
}

void Queue::allow_dma(bool on) {
    dma_ = on;
    if (!on || held_back_.empty())
        return;
    hold_used();
    for (const auto& completion : std::exchange(held_back_, {}))
        put_used(completion.head, completion.written_bytes);
    publish_used();
    signal_used();
}

std::uint16_t Queue::load_index(Gpa address) const {
    auto bytes = memory_.slice(address, 2);
    if (!bytes)
        return next_available_; // cannot be: checked by enable()
    auto* word = static_cast<std::uint16_t*>(static_cast<void*>(bytes->data()));
    return __atomic_load_n(word, __ATOMIC_ACQUIRE);
}

void Queue::store_index(Gpa address, std::uint16_t value) {
    auto bytes = memory_.slice(address, 2);
    if (!bytes)
        return;
    auto* word = static_cast<std::uint16_t*>(static_cast<void*>(bytes->data()));
    __atomic_store_n(word, value, __ATOMIC_RELEASE);
    memory_.written(address, 2);
}

Gpa Queue::available_entry(std::uint16_t position) const {
    return addresses_.available + 4 + 2ULL * (position % size_);
}

Gpa Queue::used_entry(std::uint16_t position) const {
    return addresses_.used + 4 + 8ULL * (position % size_);
}

std::optional<Chain> Queue::pop() {
    if (!enabled_ || broken_ || !dma_)
        return std::nullopt;
    auto published = load_index(addresses_.available + 2);
    auto pending = static_cast<std::uint16_t>(published - next_available_);
    // A driver that keeps to its queue never has more than its size outstanding. Beyond that
    // nothing in the ring can be trusted: no more work until it resets the device.
    if (pending > size_) {
        broken_ = true;
        ++malformed_;
        return std::nullopt;
    }
    for (; pending > 0; --pending) {
        if (in_flight_ >= size_) {
            broken_ = true;
            ++malformed_;
            return std::nullopt;
        }
        auto head = memory_.read_le<std::uint16_t>(available_entry(next_available_)).value_or(0);
        std::vector<Segment> storage;
        if (!spare_.empty()) {
            storage = std::move(spare_.back());
            spare_.pop_back();
        }
        Chain chain(self_, head, next_available_, generation_, std::move(storage));
        ++next_available_;
        ++in_flight_;
        if (walk(chain))
            return chain;
        ++malformed_;
        chain.complete(0);
    }
    return std::nullopt;
}

std::optional<Chain> Queue::pop_or_wait() {
    auto chain = pop();
    if (chain)
        return chain;
    want_notifications(true);
    return pop();
}

std::optional<Queue::Descriptor> Queue::read_descriptor(Gpa table, std::uint32_t index) const {
    std::uint8_t raw[descriptor_bytes];
    if (!memory_.read(table + descriptor_bytes * index, raw))
        return std::nullopt;
    ByteReader reader{Bytes(raw)};
    Descriptor descriptor;
    descriptor.address = reader.le<std::uint64_t>();
    descriptor.length = reader.le<std::uint32_t>();
    descriptor.flags = reader.le<std::uint16_t>();
    descriptor.next = reader.le<std::uint16_t>();
    return descriptor;
}

bool Queue::walk(Chain& chain) const {
    Gpa table = addresses_.descriptors;
    std::uint32_t entries = size_;
    std::uint32_t index = chain.head_;
    bool inside_indirect = false;
    for (unsigned count = 0;;) {
        if (index >= entries)
            return false;
        auto descriptor = read_descriptor(table, index);
        if (!descriptor)
            return false;
        if (descriptor->flags & flag_indirect) {
            // At most one table, at the end of the chain (2.7.5.3).
            if (inside_indirect || !go_indirect(*descriptor, table, entries))
                return false;
            inside_indirect = true;
            index = 0;
            continue;
        }
        if (++count > size_ || !add_segment(chain, *descriptor))
            return false;
        if (!(descriptor->flags & flag_next))
            return true;
        index = descriptor->next;
    }
}

bool Queue::go_indirect(const Descriptor& descriptor, Gpa& table, std::uint32_t& entries) const {
    if (!indirect_ || (descriptor.flags & flag_next) || descriptor.length == 0 ||
        descriptor.length % descriptor_bytes != 0 ||
        !memory_.slice(descriptor.address, descriptor.length))
        return false;
    table = descriptor.address;
    entries = static_cast<std::uint32_t>(descriptor.length / descriptor_bytes);
    return true;
}

bool Queue::add_segment(Chain& chain, const Descriptor& descriptor) const {
    bool writable = descriptor.flags & flag_write;
    if (!writable && chain.readable_count_ != chain.segments_.size())
        return false; // readable after writable (2.7.4.2)
    if (descriptor.length == 0)
        return true;
    if (!memory_.slice(descriptor.address, descriptor.length))
        return false;
    // The used length is a u32, and so is a chain's total (2.7.5).
    auto& total = writable ? chain.writable_bytes_ : chain.readable_bytes_;
    total += descriptor.length;
    if (chain.readable_bytes_ + chain.writable_bytes_ > UINT32_MAX)
        return false;
    chain.segments_.push_back({descriptor.address, descriptor.length});
    if (!writable)
        ++chain.readable_count_;
    return true;
}

void Queue::unpop(Chain&& chain) {
    if (chain.queue() != this || !chain.alive())
        return;
    if (static_cast<std::uint16_t>(chain.position_ + 1) != next_available_) {
        chain.complete(0); // not the last one: its place in the ring is gone
        return;
    }
    --next_available_;
    --in_flight_;
    recycle(std::move(chain.segments_));
    chain.segments_.clear();
    chain.readable_count_ = 0;
    chain.home_.reset();
}

void Queue::put_used(std::uint16_t head, std::uint32_t written_bytes) {
    if (!dma_) {
        held_back_.push_back({head, written_bytes});
        return;
    }
    --in_flight_;
    std::uint8_t element[8];
    store_le<std::uint32_t>(MutableBytes(element).first(4), head);
    store_le<std::uint32_t>(MutableBytes(element).last(4), written_bytes);
    memory_.write(used_entry(next_used_), element);
    ++next_used_;
    if (!holding_)
        store_index(addresses_.used + 2, next_used_);
}

void Queue::publish_used() {
    holding_ = false;
    if (enabled_ && dma_)
        store_index(addresses_.used + 2, next_used_);
}

void Queue::recycle(std::vector<Segment>&& storage) {
    if (storage.capacity() == 0 || storage.capacity() > limits::max_spare_segments ||
        spare_.size() >= limits::max_spare_chains)
        return;
    storage.clear();
    spare_.push_back(std::move(storage));
}

std::size_t Queue::spare_bytes() const {
    std::size_t sum = 0;
    for (const auto& storage : spare_)
        sum += storage.capacity() * sizeof(Segment);
    return sum;
}

void Queue::want_notifications(bool wanted) {
    if (!enabled_ || !dma_)
        return;
    if (!event_index_)
        store_index(addresses_.used, wanted ? 0 : used_no_notify);
    else if (wanted)
        store_index(available_event(), next_available_);
    if (wanted)
        std::atomic_thread_fence(std::memory_order_seq_cst);
}

void Queue::signal_used() {
    if (!enabled_ || !dma_ || next_used_ == signalled_used_)
        return;
    std::atomic_thread_fence(std::memory_order_seq_cst);
    auto before = std::exchange(signalled_used_, next_used_);
    bool wanted = event_index_ ? event_passed(load_index(used_event()), next_used_, before)
                               : !(load_index(addresses_.available) & available_no_interrupt);
    if (wanted && raise_)
        raise_();
}

} // namespace vmhost::machine::virtio
