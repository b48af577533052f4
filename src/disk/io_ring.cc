// Requests to an image without a thread of ours for each: reads and writes whose place in a file
// is known at once (Image::direct()). They are moved, one after the other, at the end of the
// loop's turn in which they came, each answered before the next is begun: what lies in the
// host's page cache is a system call and a copy, and whoever asked goes on while the next is
// copied. Reads ask the kernel not to wait. Writes cannot ask that of every filesystem; on a
// thread that has nothing else to do they are just done, for as long as that does not take long.
// Where a copy takes much longer than waking a thread, every second read is given away.
//
// What would wait, or is large, goes through a ring of the kernel's (io_uring(7)), whose threads
// do the work; its answers are taken when the loop sees the ring's descriptor readable.
// Everything else goes to our own pool: what has no such place, what the kernel could not do in
// one go (where the words for its error are found), and writes that are to be stable: on a disk
// four of them at once are faster than sixteen moved together and flushed afterwards, because the
// guest goes on with each as it ends. Only where a flush takes no time (no disk is behind it),
// both are done here; one flush in a while finds out.
//
// Nothing is answered inside submit() or commit().
#include <atomic>
#include <cerrno>
#include <climits>
#include <ctime>
#include <deque>
#include <liburing.h>
#include <unordered_map>

#include "disk/disk.h"
#include "disk/io_queue.h"
#include "disk/limits.h"
#include "disk/vectors.h"

namespace vmhost::disk {

namespace {

std::uint64_t monotonic_ns() {
    timespec now{};
    ::clock_gettime(CLOCK_MONOTONIC, &now);
    return static_cast<std::uint64_t>(now.tv_sec) * 1'000'000'000 +
           static_cast<std::uint64_t>(now.tv_nsec);
}

class RingQueue final : public IoQueue {
public:
    RingQueue(Loop& loop, Image& image, IoOptions options)
        : image_(image), options_(std::move(options)), pool_(create_pool_queue(loop, image)),
          turn_end_(loop, [this] { serve(); }), again_(loop, [this] { commit(); }), loop_(loop) {}
    ~RingQueue() override {
        watch_.reset();
        at_hand_.clear(); // pool threads may wait for what they hold
        while (in_ring_ > 0) {
            io_uring_submit_and_wait(&ring_, 1);
            take_answers([](Job) {});
        }
        if (made_)
            io_uring_queue_exit(&ring_);
    }

    // 0 or an errno.
    int open() {
        int result = io_uring_queue_init(limits::io_ring_entries, &ring_, 0);
        if (result < 0)
            return -result;
        made_ = true;
        watch_.emplace(loop_, ring_.ring_fd, [this](Watch::Ready) { answer(); });
        watch_->set(true, false);
        return 0;
    }

    void submit(const Request& request, Done done) override {
        auto length = total_bytes(request.data);
        auto direct = place_of(request, length);
        if (!direct)
            return pool_->submit(request, std::move(done));
        ++unfinished_;
        at_hand_.push_back({request, std::move(done), std::move(*direct), length, 0});
    }

    void commit() override {
        pool_->commit();
        if (!at_hand_.empty())
            turn_end_.arm();
        submit_to_ring();
    }

    unsigned running() const override {
        const unsigned ours = unfinished_; // first: to_pool() counts there before it stops here
        return ours + pool_->running();
    }
    std::size_t at_hand() const override { return at_hand_.size(); }

private:
    struct Job {
        Request request;
        Done done;
        Image::Direct place;
        std::uint64_t length_bytes = 0;
        int result = 0;
    };

    std::optional<Image::Direct> place_of(const Request& request, std::uint64_t length) {
        bool write = request.kind == Request::Kind::write;
        if ((!write && request.kind != Request::Kind::read) || length == 0 ||
            request.data.size() > IOV_MAX)
            return std::nullopt;
        return image_.direct(request.offset_bytes, length, write);
    }

    void serve() {
        auto alive = std::weak_ptr(alive_);
        for (unsigned served = 0; served < limits::max_inline_per_turn && !at_hand_.empty();
             ++served) {
            auto job = std::move(at_hand_.front());
            at_hand_.pop_front();
            if (job.request.make_stable) {
                make_stable(std::move(job));
                if (alive.expired())
                    return;
                continue;
            }
            if (better_shared(job)) {
                hand_over(std::move(job), true);
                submit_to_ring();
                continue;
            }
            if (move_here(job))
                finish(std::move(job));
            else
                hand_over(std::move(job), false);
            if (alive.expired())
                return;
            answer(); // what the kernel's threads did meanwhile
            if (alive.expired())
                return;
        }
        if (at_hand_.empty() && options_.served)
            options_.served();
        if (!alive.expired())
            commit();
    }

    // Copies that take long are shared with the kernel's threads: every second one, as long as
    // there is another for this thread.
    bool better_shared(const Job& job) {
        shared_last_ = !shared_last_ && last_move_ns_ > limits::inline_alone_ns &&
                       !at_hand_.empty() && job.request.kind == Request::Kind::read;
        return shared_last_;
    }

    // False when it is not done, or not whole: somebody else does it all again.
    bool move_here(const Job& job) {
        if (job.length_bytes > limits::max_inline_io_bytes)
            return false;
        bool read = job.request.kind == Request::Kind::read;
        bool ask = read && can_ask_not_to_wait_;
        if (!ask && (!options_.may_wait || not_here_ > 0)) {
            not_here_ -= not_here_ > 0;
            return false;
        }
        auto count = static_cast<int>(job.request.data.size());
        auto offset = static_cast<off_t>(job.place.offset_bytes);
        auto before_ns = monotonic_ns();
        auto moved = read ? ::preadv2(job.place.fd, job.request.data.data(), count, offset,
                                      ask ? RWF_NOWAIT : 0)
                          : ::pwritev(job.place.fd, job.request.data.data(), count, offset);
        if (ask && moved < 0 && errno == EOPNOTSUPP) {
            can_ask_not_to_wait_ = false;
            return move_here(job);
        }
        last_move_ns_ = monotonic_ns() - before_ns;
        if (last_move_ns_ > limits::max_inline_wait_ns)
            not_here_ = limits::not_inline_after_wait;
        return moved >= 0 && static_cast<std::uint64_t>(moved) == job.length_bytes;
    }

    // A flush that failed is not tried again: the second one would know nothing of the first.
    void make_stable(Job job) {
        bool here = options_.may_wait && no_flush_here_ == 0;
        no_flush_here_ -= no_flush_here_ > 0;
        if (!here || !move_here(job))
            return to_pool(std::move(job));
        job.place.hold.reset();
        auto before_ns = monotonic_ns();
        auto flushed = image_.flush();
        if (monotonic_ns() - before_ns > limits::inline_alone_ns)
            no_flush_here_ = limits::not_inline_after_wait;
        finish(std::move(job), std::move(flushed));
    }

    void finish(Job job, Result<void> result = {}) {
        --unfinished_;
        job.place.hold.reset();
        job.done(std::move(result));
    }

    void to_pool(Job job) {
        job.place.hold.reset();
        pool_->submit(job.request, std::move(job.done));
        --unfinished_;
    }

    void hand_over(Job job, bool to_thread) {
        auto* entry = in_ring_ < limits::io_ring_entries ? next_entry() : nullptr;
        if (entry == nullptr)
            return to_pool(std::move(job));
        auto count = static_cast<unsigned>(job.request.data.size());
        bool read = job.request.kind == Request::Kind::read;
        if (read)
            io_uring_prep_readv(entry, job.place.fd, job.request.data.data(), count,
                                job.place.offset_bytes);
        else
            io_uring_prep_writev(entry, job.place.fd, job.request.data.data(), count,
                                 job.place.offset_bytes);
        // A read may find its pages by now, or be told when they are there; the kernel does not
        // try a write without a thread where it could not do it here.
        if (to_thread || !read || job.length_bytes > limits::max_inline_io_bytes)
            io_uring_sqe_set_flags(entry, IOSQE_ASYNC);
        auto id = ++last_id_;
        io_uring_sqe_set_data64(entry, id);
        jobs_.emplace(id, std::move(job));
        ++in_ring_;
        ++waiting_;
    }

    void submit_to_ring() {
        if (waiting_ == 0)
            return;
        if (int count = io_uring_submit(&ring_); count > 0)
            waiting_ -= std::min(waiting_, static_cast<unsigned>(count));
        if (waiting_ > 0) // the kernel has no room just now
            again_.wake();
    }

    io_uring_sqe* next_entry() {
        if (auto* entry = io_uring_get_sqe(&ring_))
            return entry;
        submit_to_ring();
        return io_uring_get_sqe(&ring_);
    }

    // What the kernel has finished.
    template <class Function>
    void take_answers(Function took) {
        io_uring_cqe* answered = nullptr;
        while (io_uring_peek_cqe(&ring_, &answered) == 0) {
            auto found = jobs_.extract(io_uring_cqe_get_data64(answered));
            auto result = answered->res;
            io_uring_cqe_seen(&ring_, answered);
            if (found.empty())
                continue;
            --in_ring_;
            auto& job = found.mapped();
            job.result = result;
            took(std::move(job));
        }
    }

    void answer() {
        if (in_ring_ == 0)
            return;
        std::vector<Job> answered;
        take_answers([&](Job job) { answered.push_back(std::move(job)); });
        auto alive = std::weak_ptr(alive_);
        for (auto& job : answered) {
            if (job.result >= 0 && static_cast<std::uint64_t>(job.result) == job.length_bytes)
                finish(std::move(job));
            else
                to_pool(std::move(job));
            if (alive.expired())
                return;
        }
        if (!answered.empty())
            commit();
    }

    Image& image_;
    const IoOptions options_;
    std::unique_ptr<IoQueue> pool_;
    std::deque<Job> at_hand_;
    TurnEnd turn_end_;
    bool can_ask_not_to_wait_ = true;
    unsigned not_here_ = 0;          // requests to be handed over untried
    unsigned no_flush_here_ = 0;     // writes to be made stable elsewhere
    std::uint64_t last_move_ns_ = 0; // what the last one on this thread took
    bool shared_last_ = false;
    Wakeup again_;
    Loop& loop_;
    io_uring ring_{};
    bool made_ = false;
    std::optional<Watch> watch_;
    std::unordered_map<std::uint64_t, Job> jobs_;
    std::uint64_t last_id_ = 0;
    unsigned waiting_ = 0; // entries that the kernel has not seen
    unsigned in_ring_ = 0;
    std::atomic<unsigned> unfinished_ = 0; // at hand or in the ring; changed on the loop's thread
    std::shared_ptr<void> alive_ = std::make_shared<char>();
};

} // namespace

Result<std::unique_ptr<IoQueue>> create_ring_queue(Loop& loop, Image& image, IoOptions options) {
    auto queue = std::make_unique<RingQueue>(loop, image, std::move(options));
    if (int error = queue->open(); error != 0)
        return fail_errno(error, "io_uring");
    return std::unique_ptr<IoQueue>(std::move(queue));
}

std::unique_ptr<IoQueue> IoQueue::create(Loop& loop, Image& image, IoOptions options) {
    static bool logged = false; // of the thread that makes machines
    auto ring = create_ring_queue(loop, image, std::move(options));
    if (!std::exchange(logged, true))
        log::debug("disk", "asynchronous I/O: {}",
                   ring ? "io_uring" : "threads, for want of " + ring.error().text());
    return ring ? std::move(*ring) : create_pool_queue(loop, image);
}

} // namespace vmhost::disk
