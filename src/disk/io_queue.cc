// Requests to an image that nobody waits for, on the process's pool threads: each is one
// blocking call of the image there, and its answer one turn of the loop. The way for everything
// that io_ring.cc cannot do at once.
//
// Flushes are joined: while a few are under way, whatever asks for another waits, and one flush
// then answers all of them, however many there are. Only a few, so that a guest that has every
// write made stable does not pay for each; more than one, so that it gets its answers in portions,
// and its next requests come while the disk is at work on the others.
#include <condition_variable>
#include <mutex>

#include "disk/io_queue.h"
#include "disk/limits.h"

namespace vmhost::disk {

namespace {

using Request = IoQueue::Request;

// On any thread; blocks.
Result<void> perform(Image& image, const Request& request) {
    switch (request.kind) {
    case Request::Kind::read:
        return image.readv(request.data, request.offset_bytes);
    case Request::Kind::write:
        return image.writev(request.data, request.offset_bytes);
    case Request::Kind::flush:
        return image.flush();
    case Request::Kind::discard:
        return image.discard(request.offset_bytes, request.length_bytes);
    case Request::Kind::write_zeroes:
        return image.write_zeroes(request.offset_bytes, request.length_bytes, request.may_unmap);
    }
    return {};
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
        if (request.kind == Request::Kind::flush)
            to_be_flushed_.push_back(std::move(done));
        else if (request.make_stable)
            begin(request, [this, done = std::move(done)](Result<void> result) mutable {
                if (!result)
                    return done(std::move(result));
                to_be_flushed_.push_back(std::move(done));
                commit();
            });
        else
            begin(request, std::move(done));
    }

    void commit() override {
        if (flushes_ == limits::max_flushes_at_once || to_be_flushed_.empty())
            return;
        ++flushes_;
        begin({.kind = Request::Kind::flush},
              [this, shared = shared_, joined = std::exchange(to_be_flushed_, {})](auto result) {
                  --flushes_;
                  for (const auto& done : joined) {
                      done(result);
                      if (shared->closed)
                          return; // the answer took the queue down
                  }
                  commit();
              });
    }

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

    void begin(const Request& request, Done done) {
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
        loop_.work(std::move(job), [shared = shared_, result, done = std::move(done)]() mutable {
            if (!shared->closed) // it only changes on this thread
                done(std::move(*result));
        });
    }

    Loop& loop_;
    Image& image_;
    std::vector<Done> to_be_flushed_; // by the next flush
    unsigned flushes_ = 0;            // under way
    std::shared_ptr<Shared> shared_ = std::make_shared<Shared>();
};

} // namespace

std::unique_ptr<IoQueue> create_pool_queue(Loop& loop, Image& image) {
    return std::make_unique<PoolQueue>(loop, image);
}

} // namespace vmhost::disk
