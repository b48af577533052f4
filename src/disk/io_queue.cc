// Requests to an image that nobody waits for, on the process's pool threads: each is one
// blocking call of the image there, and its answer one turn of the loop. The way for everything
// that a ring of the kernel's (io_ring.cc) cannot do, and for all where there is none.
#include <condition_variable>
#include <mutex>

#include "disk/io_queue.h"

namespace vmhost::disk {

namespace {

using Request = IoQueue::Request;

// On any thread; blocks.
Result<void> perform(Image& image, const Request& request) {
    Result<void> result;
    switch (request.kind) {
    case Request::Kind::read:
        result = image.readv(request.data, request.offset_bytes);
        break;
    case Request::Kind::write:
        result = image.writev(request.data, request.offset_bytes);
        break;
    case Request::Kind::flush:
        return image.flush();
    case Request::Kind::discard:
        result = image.discard(request.offset_bytes, request.length_bytes);
        break;
    case Request::Kind::write_zeroes:
        result = image.write_zeroes(request.offset_bytes, request.length_bytes, request.may_unmap);
        break;
    }
    if (result && request.make_stable)
        result = image.flush();
    return result;
}

class PoolQueue final : public IoQueue {
public:
    PoolQueue(Loop& loop, Image& image) : loop_(loop), image_(image) {}
    ~PoolQueue() override {
        std::unique_lock guard(shared_->mutex);
        shared_->closed = true;
        shared_->changed.wait(guard, [this] { return shared_->running == 0; });
    }

    void submit(const Request& request, Done done) override {
        {
            std::scoped_lock guard(shared_->mutex);
            ++shared_->running;
        }
        auto result = std::make_shared<Result<void>>();
        auto job = [shared = shared_, request, result, &image = image_] {
            bool closed = false;
            {
                std::scoped_lock guard(shared->mutex);
                closed = shared->closed;
            }
            if (!closed)
                *result = perform(image, request);
            std::scoped_lock guard(shared->mutex);
            --shared->running;
            shared->changed.notify_all();
        };
        loop_.work(std::move(job), [shared = shared_, result, done = std::move(done)] {
            if (!shared->closed) // it only changes on this thread
                done(std::move(*result));
        });
    }
    void commit() override {}
    unsigned running() const override {
        std::scoped_lock guard(shared_->mutex);
        return shared_->running;
    }

private:
    // What jobs share with the queue; they may outlive it.
    struct Shared {
        mutable std::mutex mutex;
        std::condition_variable changed;
        unsigned running = 0; // jobs handed over that have not come to their end
        bool closed = false;  // jobs that have not begun do nothing
    };
    Loop& loop_;
    Image& image_;
    std::shared_ptr<Shared> shared_ = std::make_shared<Shared>();
};

} // namespace

std::unique_ptr<IoQueue> create_pool_queue(Loop& loop, Image& image) {
    return std::make_unique<PoolQueue>(loop, image);
}

} // namespace vmhost::disk
