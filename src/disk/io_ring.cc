// Requests to an image through a ring of the kernel's (io_uring(7)): reads and writes whose
// place in a file is known at once (Image::direct()) are handed to the kernel in batches, with
// no thread of ours in between; everything else takes the pool's way, and so does what the
// kernel could not do in one go, which also finds the words for its error.
//
// What lies in the host's page cache is copied while it is handed over, on this thread; what
// does not, or is large, is the kernel's threads' work. Answers are taken when the loop sees the
// ring's descriptor readable, never inside submit() or commit().
#include <atomic>
#include <climits>
#include <liburing.h>
#include <unordered_map>

#include "disk/disk.h"
#include "disk/io_queue.h"
#include "disk/limits.h"
#include "disk/vectors.h"

namespace vmhost::disk {

namespace {

class RingQueue final : public IoQueue {
public:
    RingQueue(Loop& loop, Image& image)
        : image_(image), pool_(create_pool_queue(loop, image)), again_(loop, [this] { commit(); }),
          loop_(loop) {}
    ~RingQueue() override {
        watch_.reset();
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
        if (auto direct = place_of(request)) {
            if (auto* entry = next_entry()) {
                hand_over(*entry, request, std::move(*direct), std::move(done));
                return;
            }
        }
        pool_->submit(request, std::move(done));
    }

    void commit() override {
        if (waiting_ == 0)
            return;
        if (int count = io_uring_submit(&ring_); count > 0)
            waiting_ -= std::min(waiting_, static_cast<unsigned>(count));
        if (waiting_ > 0) // the kernel has no room just now
            again_.wake();
    }

    unsigned running() const override { return in_ring_ + pool_->running(); }

private:
    struct Job {
        Request request;
        Done done;
        Image::Direct place;
        std::uint64_t length_bytes = 0;
        int result = 0;
    };

    std::optional<Image::Direct> place_of(const Request& request) {
        bool write = request.kind == Request::Kind::write;
        if ((!write && request.kind != Request::Kind::read) || request.make_stable ||
            request.data.size() > IOV_MAX || in_ring_ >= limits::io_ring_entries)
            return std::nullopt;
        auto length = total_bytes(request.data);
        if (length == 0)
            return std::nullopt;
        return image_.direct(request.offset_bytes, length, write);
    }

    io_uring_sqe* next_entry() {
        if (auto* entry = io_uring_get_sqe(&ring_))
            return entry;
        commit();
        return io_uring_get_sqe(&ring_);
    }

    void hand_over(io_uring_sqe& entry, const Request& request, Image::Direct place, Done done) {
        auto count = static_cast<unsigned>(request.data.size());
        if (request.kind == Request::Kind::read)
            io_uring_prep_readv(&entry, place.fd, request.data.data(), count, place.offset_bytes);
        else
            io_uring_prep_writev(&entry, place.fd, request.data.data(), count, place.offset_bytes);
        auto length = total_bytes(request.data);
        if (length > limits::max_inline_io_bytes)
            io_uring_sqe_set_flags(&entry, IOSQE_ASYNC);
        auto id = ++last_id_;
        io_uring_sqe_set_data64(&entry, id);
        jobs_.emplace(id, Job{request, std::move(done), std::move(place), length, 0});
        ++in_ring_;
        ++waiting_;
    }

    // What the kernel has finished, each without its hold on the image.
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
            job.place.hold.reset();
            took(std::move(job));
        }
    }

    void answer() {
        std::vector<Job> answered;
        take_answers([&](Job job) { answered.push_back(std::move(job)); });
        auto alive = std::weak_ptr(alive_);
        for (auto& job : answered) {
            if (job.result >= 0 && static_cast<std::uint64_t>(job.result) == job.length_bytes)
                job.done({});
            else
                pool_->submit(job.request, std::move(job.done));
            if (alive.expired())
                return;
        }
    }

    Image& image_;
    std::unique_ptr<IoQueue> pool_;
    Wakeup again_;
    Loop& loop_;
    io_uring ring_{};
    bool made_ = false;
    std::optional<Watch> watch_;
    std::unordered_map<std::uint64_t, Job> jobs_;
    std::uint64_t last_id_ = 0;
    unsigned waiting_ = 0;              // entries that the kernel has not seen
    std::atomic<unsigned> in_ring_ = 0; // changed on the loop's thread only
    std::shared_ptr<void> alive_ = std::make_shared<char>();
};

} // namespace

Result<std::unique_ptr<IoQueue>> create_ring_queue(Loop& loop, Image& image) {
    auto queue = std::make_unique<RingQueue>(loop, image);
    if (int error = queue->open(); error != 0)
        return fail_errno(error, "io_uring");
    return std::unique_ptr<IoQueue>(std::move(queue));
}

std::unique_ptr<IoQueue> IoQueue::create(Loop& loop, Image& image) {
    static bool logged = false; // of the loop's thread
    auto ring = create_ring_queue(loop, image);
    if (!std::exchange(logged, true))
        log::debug("disk", "asynchronous I/O: {}",
                   ring ? "io_uring" : "threads, for want of " + ring.error().text());
    return ring ? std::move(*ring) : create_pool_queue(loop, image);
}

} // namespace vmhost::disk
