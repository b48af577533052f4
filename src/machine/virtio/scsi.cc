// A request is a chain of readable {lun[8], id, task attribute, priority, crn, cdb[cdb_size]} and
// data for the device, then writable {sense_len, residual, status qualifier, status, response,
// sense[sense_size]} and room for data (5.6.6.1). Everything but cdb and sense is little-endian.
#include "machine/virtio/scsi.h"

#include <algorithm>

namespace vmhost::machine::virtio {

namespace {

constexpr std::uint64_t head_bytes = 19, answer_head_bytes = 12;
constexpr std::uint32_t default_cdb_bytes = 32, default_sense_bytes = 96, max_field_bytes = 255;
constexpr std::size_t sense_size_offset = 20, cdb_size_offset = 24;
constexpr std::uint32_t event_bytes = 16;

enum Response : std::uint8_t {
    ok = 0, // of task management: FUNCTION COMPLETE
    overrun = 1,
    aborted = 2,
    bad_target = 3,
    function_succeeded = 10,
    function_rejected = 11,
};
constexpr std::uint8_t status_good = 0, status_check_condition = 2;

enum ControlType : std::uint32_t { task_management = 0, query = 1, subscribe = 2 };
enum Task : std::uint32_t {
    abort_task = 0,
    abort_task_set = 1,
    clear_aca = 2,
    clear_task_set = 3,
    nexus_reset = 4,
    unit_reset = 5,
    query_task = 6,
    query_task_set = 7,
};
constexpr std::uint32_t event_none = 0, event_async = 2, events_missed = 1U << 31;
constexpr std::uint32_t async_media_change = 16;

constexpr CdDrive::Sense unreadable{3, 0x11, 0};
constexpr std::array<std::uint8_t, 8> our_lun{1, 0, 0x40, 0, 0, 0, 0, 0};

// {1, target, 0x40 | high byte of the unit, low byte}; some drivers leave the 0x40 out (5.6.6.1).
bool is_ours(Bytes lun) {
    return lun.size() == 8 && lun[0] == 1 && lun[1] == 0 && (lun[2] & ~0x40) == 0 && lun[3] == 0;
}

} // namespace

// A request on its way through here.
struct Scsi::Command {
    explicit Command(Chain taken) : chain(std::move(taken)) {}
    Chain chain;
    std::uint64_t id = 0;           // the guest's name for it
    std::uint32_t answer_bytes = 0; // head and sense, before the data
    std::uint64_t room() const { return chain.writable_bytes() - answer_bytes; }
};

struct Scsi::Read {
    explicit Read(Command started) : command(std::move(started)) {}
    Command command;
    const Medium* medium = nullptr;
    std::uint64_t data_bytes = 0;
    std::vector<iovec> data;
    bool aborted = false; // by task management
};

Scsi::Scsi(std::string name, std::string serial, Loop& loop, Bus::Lock& lock)
    : name_(std::move(name)), loop_(loop), lock_(lock), drive_(std::move(serial)),
      again_(loop_, [this] {
          std::scoped_lock guard(lock_);
          bool more = notify(control_queue);
          more |= notify(request_queue);
          if (more)
              again_.wake();
          close_retired();
      }) {
    // struct virtio_scsi_config (5.6.4).
    ByteWriter config;
    config.le<std::uint32_t>(1);              // request queues
    config.le<std::uint32_t>(queue_size - 2); // seg_max
    config.le<std::uint32_t>(2048);           // max_sectors of 512 bytes: drivers cut at 1 MiB
    config.le<std::uint32_t>(queue_size);     // commands per unit
    config.le(event_bytes);
    config.le(default_sense_bytes);
    config.le(default_cdb_bytes);
    config.le<std::uint16_t>(0); // max_channel
    config.le<std::uint16_t>(1); // max_target: vmd's; OpenBSD takes it for a count
    config.le<std::uint32_t>(1); // max_lun
    std::ranges::copy(config.buffer(), config_.begin());
}

std::uint32_t Scsi::sense_bytes() const {
    return load_le<std::uint32_t>(Bytes(config_).subspan(sense_size_offset));
}
std::uint32_t Scsi::cdb_bytes() const {
    return load_le<std::uint32_t>(Bytes(config_).subspan(cdb_size_offset));
}

// The driver may change the two sizes, and nothing else.
void Scsi::write_config(std::uint64_t offset, Bytes data) {
    if ((offset != sense_size_offset && offset != cdb_size_offset) || data.size() != 4 ||
        load_le<std::uint32_t>(data) > max_field_bytes)
        return;
    std::ranges::copy(data, config_.begin() + static_cast<std::ptrdiff_t>(offset));
}

void Scsi::activate(std::uint64_t, std::vector<Queue*> queues) {
    control_ = queues.at(control_queue);
    events_ = queues.at(event_queue);
    requests_ = queues.at(request_queue);
}

void Scsi::reset() {
    control_ = events_ = requests_ = nullptr;
    managers_.clear();
    subscribed_ = events_missed_ = throttled_ = false;
    store_le(MutableBytes(config_).subspan(sense_size_offset), default_sense_bytes);
    store_le(MutableBytes(config_).subspan(cdb_size_offset), default_cdb_bytes);
    drive_.reset();
}

bool Scsi::notify(std::uint16_t queue) {
    if (queue == control_queue)
        return take(control_, &Scsi::serve_control);
    if (queue == request_queue)
        return take(requests_, &Scsi::serve_request);
    tell_missed_events();
    return false;
}

// True when the turn's share is used up and there may be more.
bool Scsi::take(Queue* queue, void (Scsi::*serve)(Chain)) {
    if (queue == nullptr || paused_)
        return false;
    queue->want_notifications(false);
    bool more = true;
    for (unsigned taken = 0; more && taken < limits::max_requests_per_turn; ++taken) {
        // Reads with the pool, and what waits for them, never exceed a queue's worth.
        throttled_ = reads_.size() >= queue_size || managers_.size() >= queue_size;
        if (throttled_) {
            more = false;
            break;
        }
        auto chain = queue->pop_or_wait();
        more = chain.has_value();
        if (chain)
            (this->*serve)(std::move(*chain));
    }
    if (medium_)
        medium_->io->commit();
    queue->signal_used();
    return more;
}

void Scsi::serve_request(Chain chain) {
    Command command(std::move(chain));
    command.answer_bytes = static_cast<std::uint32_t>(answer_head_bytes + sense_bytes());
    std::vector<std::uint8_t> raw(head_bytes + cdb_bytes());
    if (command.chain.read(0, raw) != raw.size() ||
        command.chain.writable_bytes() < command.answer_bytes) {
        ++malformed_; // no command, or no place to say anything
        return command.chain.complete(0);
    }
    ByteReader head(raw);
    auto lun = head.bytes(8);
    command.id = head.le<std::uint64_t>();
    head.skip(3); // task attribute, priority, command reference number: order does not matter here
    if (!is_ours(lun))
        return answer(command, bad_target, std::nullopt, 0);
    auto outcome = drive_.execute(head.bytes(cdb_bytes()));
    if (outcome.sense)
        return answer(command, ok, outcome.sense, 0);
    if (outcome.block_count != 0)
        return start_read(std::move(command), outcome);
    auto fits = std::min<std::uint64_t>(outcome.data.size(), command.room());
    command.chain.write(command.answer_bytes, Bytes(outcome.data).first(fits));
    answer(command, fits < outcome.data.size() ? overrun : ok, std::nullopt, fits);
}

void Scsi::start_read(Command command, const CdDrive::Outcome& outcome) {
    auto length = std::uint64_t{outcome.block_count} * CdDrive::block_bytes;
    if (length > command.room())
        return answer(command, overrun, std::nullopt, 0);
    auto read = std::make_shared<Read>(std::move(command));
    read->medium = medium_.get();
    read->data_bytes = length;
    read->command.chain.gather_writable(read->command.answer_bytes, length, read->data);
    reads_.push_back(read);
    disk::IoQueue::Request request;
    request.kind = disk::IoQueue::Request::Kind::read;
    request.offset_bytes = outcome.first_block * CdDrive::block_bytes;
    request.data = read->data;
    medium_->io->submit(
        request, [this, read](Result<void> result) { finish_read(read, std::move(result)); });
}

void Scsi::finish_read(const std::shared_ptr<Read>& read, Result<void> result) {
    std::scoped_lock guard(lock_);
    std::erase(reads_, read);
    auto& command = read->command;
    // Also when a reset came in between, and after an error that came half-way.
    command.chain.report_written(command.answer_bytes, read->data_bytes);
    if (read->aborted) {
        answer(command, aborted, std::nullopt, 0);
    } else if (!result) {
        note_failure(result.error());
        drive_.note(unreadable);
        answer(command, ok, unreadable, 0);
    } else {
        answer(command, ok, std::nullopt, read->data_bytes);
    }
    if (requests_ != nullptr)
        requests_->signal_used();
    answer_managers();
    if (std::exchange(throttled_, false) || !retired_.empty())
        again_.wake();
}

bool Scsi::quiescent() const {
    auto running = [](const std::unique_ptr<Medium>& medium) {
        return medium && medium->io->running() != 0;
    };
    return !running(medium_) && std::ranges::none_of(retired_, running);
}

// Not from a read's own completion, which is the medium's.
void Scsi::close_retired() {
    std::erase_if(retired_, [this](const auto& medium) {
        return std::ranges::none_of(reads_,
                                    [&](const auto& read) { return read->medium == medium.get(); });
    });
}

// The answer goes in after the data, the chain back after the answer.
void Scsi::answer(Command& command, std::uint8_t response,
                  const std::optional<CdDrive::Sense>& sense, std::uint64_t data_bytes) {
    if (!command.chain.alive())
        return;
    const auto sense_room = command.answer_bytes - answer_head_bytes;
    std::vector<std::uint8_t> sense_data;
    if (sense)
        sense_data = CdDrive::format(*sense);
    sense_data.resize(std::min<std::size_t>(sense_data.size(), sense_room));
    auto residual = std::min<std::uint64_t>(command.room() - data_bytes, UINT32_MAX);
    ByteWriter raw;
    raw.le(static_cast<std::uint32_t>(sense_data.size()));
    raw.le(static_cast<std::uint32_t>(residual));
    raw.le<std::uint16_t>(0);
    raw.le(sense ? status_check_condition : status_good);
    raw.le(response);
    raw.bytes(sense_data);
    raw.zeros(sense_room - sense_data.size());
    command.chain.write(0, raw.buffer());
    command.chain.complete(static_cast<std::uint32_t>(command.answer_bytes + data_bytes));
}

void Scsi::serve_control(Chain chain) {
    std::uint8_t raw[24] = {};
    auto length = chain.read(0, raw);
    ByteReader request(Bytes(raw).first(length));
    auto type = request.le<std::uint32_t>();
    if (type == task_management && length == 24 && chain.writable_bytes() >= 1)
        return manage_tasks(std::move(chain), request);
    if ((type == query || type == subscribe) && length >= 16 && chain.writable_bytes() >= 5)
        return notify_about(std::move(chain), type, request);
    ++malformed_;
    chain.complete(0);
}

// {type, subtype, lun[8], id} and one byte of response (5.6.6.2). Without a task attribute that
// matters, the task set is what is being read.
void Scsi::manage_tasks(Chain chain, ByteReader request) {
    auto subtype = request.le<std::uint32_t>();
    auto lun = request.bytes(8);
    auto id = request.le<std::uint64_t>();
    auto say = [&](std::uint8_t response) {
        chain.write(0, Bytes(&response, 1));
        chain.complete(1);
    };
    // A reset of the nexus is about the target, whatever the unit.
    if (subtype == nexus_reset ? lun[0] != 1 || lun[1] != 0 : !is_ours(lun))
        return say(bad_target);
    std::vector<std::weak_ptr<Read>> affected;
    for (const auto& read : reads_)
        if (read->command.chain.alive() &&
            ((subtype != abort_task && subtype != query_task) || read->command.id == id))
            affected.push_back(read);
    switch (subtype) {
    case query_task:
    case query_task_set:
        return say(affected.empty() ? ok : function_succeeded);
    case nexus_reset:
    case unit_reset:
        drive_.reset();
        break;
    case abort_task:
    case abort_task_set:
    case clear_task_set:
        break;
    default: // CLEAR ACA: there is never one
        return say(function_rejected);
    }
    for (auto& one : affected)
        if (auto read = one.lock())
            read->aborted = true;
    if (affected.empty())
        return say(ok);
    managers_.push_back({std::move(chain), std::move(affected)});
}

void Scsi::answer_managers() {
    bool answered = false;
    std::vector<Manager> waiting;
    for (auto& manager : managers_) {
        bool done = std::ranges::none_of(manager.affected, [this](const auto& one) {
            return std::ranges::find(reads_, one.lock()) != reads_.end();
        });
        if (!done) {
            waiting.push_back(std::move(manager));
            continue;
        }
        const std::uint8_t complete = ok;
        manager.chain.write(0, Bytes(&complete, 1));
        manager.chain.complete(1);
        answered = true;
    }
    managers_ = std::move(waiting);
    if (answered && control_ != nullptr)
        control_->signal_used();
}

// {type, lun[8], wanted} and {actual, response}: which events there are, and which are wanted.
void Scsi::notify_about(Chain chain, std::uint32_t type, ByteReader request) {
    auto lun = request.bytes(8);
    auto wanted = request.le<std::uint32_t>();
    auto actual = is_ours(lun) ? wanted & async_media_change : 0;
    if (type == subscribe && is_ours(lun))
        subscribed_ = actual != 0;
    ByteWriter raw;
    raw.le(actual);
    raw.le<std::uint8_t>(is_ours(lun) ? ok : bad_target);
    chain.write(0, raw.buffer());
    chain.complete(static_cast<std::uint32_t>(raw.size()));
}

// {event, lun[8], reason} into a buffer that the driver has put there for it (5.6.6.3).
void Scsi::send_event(std::uint32_t event, std::uint32_t reason) {
    if (events_ == nullptr)
        return;
    auto chain = paused_ ? std::nullopt : events_->pop(); // told by resume()
    if (!chain) {
        events_missed_ = true;
        return;
    }
    if (chain->writable_bytes() < event_bytes) {
        ++malformed_;
        events_missed_ = true;
        return; // the chain goes back empty
    }
    ByteWriter raw;
    raw.le(event | (std::exchange(events_missed_, false) ? events_missed : 0));
    raw.bytes(our_lun);
    raw.le(reason);
    chain->write(0, raw.buffer());
    chain->complete(event_bytes);
    events_->signal_used();
}

void Scsi::tell_missed_events() {
    if (events_missed_)
        send_event(event_none, 0);
}

Result<void> Scsi::change_medium(std::unique_ptr<disk::Image> image, bool force) {
    std::uint64_t blocks = image ? image->size_bytes() / CdDrive::block_bytes : 0;
    if (image && blocks == 0)
        return fail(ErrorKind::invalid, "image {}: {} bytes hold no block of {}", image->name(),
                    image->size_bytes(), CdDrive::block_bytes);
    std::scoped_lock guard(lock_);
    if (drive_.ready() && drive_.locked() && !force) {
        drive_.ask_to_eject();
        return fail(ErrorKind::busy, "the guest has locked the tray; it was asked to let go of the "
                                     "medium");
    }
    if (medium_)
        retired_.push_back(std::move(medium_));
    if (image) {
        medium_ = std::make_unique<Medium>();
        medium_->io = disk::IoQueue::create(loop_, *image);
        medium_->image = std::move(image);
    }
    close_retired();
    drive_.change_medium(blocks);
    if (subscribed_)
        send_event(event_async, async_media_change);
    return {};
}

void Scsi::note_failure(const Error& error) {
    if (failed_reads_++ == 0)
        log::error("virtio", "{}: {}; the guest gets medium errors, further ones are only counted",
                   name_, error.text());
}

} // namespace vmhost::machine::virtio
