// Asynchronous I/O: both ways, over every kind of image, against a flat shadow.
#include <catch2/catch.hpp>

#include <condition_variable>
#include <fcntl.h>
#include <filesystem>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <mutex>
#include <random>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <thread>

#include "disk/io_queue.h"
#include "disk/limits.h"
#include "temporary.h"

using namespace vmhost;
using disk::Format;
using disk::IoQueue;
using vmhost::test::TemporaryDirectory;
using Kind = IoQueue::Request::Kind;

namespace {

enum class Way { ring, ring_may_wait, threads };
constexpr Way ways[] = {Way::ring, Way::ring_may_wait, Way::threads};

std::unique_ptr<IoQueue> make_queue(Way way, Loop& loop, disk::Image& image,
                                    std::function<void()> served = {}) {
    if (way == Way::threads)
        return disk::create_pool_queue(loop, image);
    auto made = disk::create_ring_queue(
        loop, image, {.may_wait = way == Way::ring_may_wait, .served = std::move(served)});
    if (!made) {
        WARN("skipped: " << made.error().message());
        return nullptr;
    }
    return std::move(*made);
}

std::unique_ptr<disk::Image> open(const std::string& path, Format format, bool read_only = false) {
    auto image = disk::Image::open(*disk::open_chain(path, format, read_only, true), read_only);
    if (!image)
        FAIL(image.error().message());
    return std::move(*image);
}

// Requests under way with the memory that they need.
struct Flight {
    std::vector<std::uint8_t> bytes;
    std::vector<iovec> data;
    std::uint64_t offset = 0;
    std::optional<Result<void>> result;
};

struct Rig {
    Loop loop;
    std::unique_ptr<disk::Image> image;
    std::unique_ptr<IoQueue> queue;
    unsigned waiting = 0, served = 0;

    bool use(Way way) {
        queue = make_queue(way, loop, *image, [this] { ++served; });
        return queue != nullptr;
    }
    std::shared_ptr<Flight> submit(IoQueue::Request request, std::vector<std::uint8_t> bytes) {
        auto flight = std::make_shared<Flight>();
        flight->bytes = std::move(bytes);
        flight->offset = request.offset_bytes;
        auto half = flight->bytes.size() / 2; // scattered
        if (half > 0)
            flight->data.push_back({flight->bytes.data(), half});
        flight->data.push_back({flight->bytes.data() + half, flight->bytes.size() - half});
        request.data = flight->data;
        ++waiting;
        queue->submit(request, [this, flight](Result<void> result) {
            flight->result = std::move(result);
            --waiting;
        });
        return flight;
    }
    void settle() {
        queue->commit();
        while (waiting > 0)
            loop.run_once(true);
        CHECK(queue->running() == 0);
    }
};

} // namespace

TEST_CASE("asynchronous requests do what the blocking ones do, by ring and by threads") {
    for (auto way : ways) {
        for (int shape = 0; shape < 4; ++shape) {
            INFO("way " << static_cast<int>(way) << ", shape " << shape);
            TemporaryDirectory directory;
            constexpr std::uint64_t size = 3 * MiB;
            std::vector<std::uint8_t> shadow(size);
            auto path = directory / "a";
            auto format = shape == 0 ? Format::raw : Format::qcow2;
            if (shape < 2) {
                REQUIRE(disk::create_image(path, format, size));
            } else { // on a base with data, raw or compressed
                REQUIRE(disk::create_raw(directory / "base", size));
                for (std::size_t i = 0; i < size; ++i)
                    shadow[i] = static_cast<std::uint8_t>(i / 1000);
                iovec all{shadow.data(), shadow.size()};
                REQUIRE(open(directory / "base", Format::raw)->writev({&all, 1}, 0));
                REQUIRE(
                    disk::compress({Format::raw, directory / "base"}, directory / "b.zst", 1, {}));
                auto base = shape == 2 ? disk::ImageName{Format::raw, "base"}
                                       : disk::ImageName{Format::zst, "b.zst"};
                REQUIRE(disk::create_overlay(path, base, {}));
            }
            Rig rig;
            rig.image = open(path, format);
            if (!rig.use(way))
                continue;
            std::mt19937_64 random(static_cast<unsigned>(shape));
            for (int round = 0; round < 40; ++round) {
                // What is in flight together does not overlap: one slot each.
                std::vector<std::pair<std::shared_ptr<Flight>, bool>> flights;
                for (std::uint64_t slot = 0; slot < 6; ++slot) {
                    auto start = slot * 512 * KiB;
                    auto offset = start + random() % (400 * KiB) / 512 * 512;
                    auto length = 512 + random() % (start + 512 * KiB - offset - 511) / 512 * 512;
                    IoQueue::Request request{.offset_bytes = offset};
                    auto* at = shadow.data() + offset;
                    switch (random() % 5) {
                    case 0:
                        request.kind = Kind::write_zeroes;
                        request.length_bytes = length;
                        request.may_unmap = random() % 2 == 0;
                        std::memset(at, 0, length);
                        rig.submit(request, {});
                        break;
                    case 1:
                    case 2: {
                        request.kind = Kind::write;
                        request.make_stable = random() % 8 == 0;
                        std::vector<std::uint8_t> data(length, static_cast<std::uint8_t>(random()));
                        std::ranges::copy(data, at);
                        flights.emplace_back(rig.submit(request, std::move(data)), false);
                        break;
                    }
                    default:
                        request.kind = Kind::read;
                        flights.emplace_back(rig.submit(request, std::vector<std::uint8_t>(length)),
                                             true);
                    }
                }
                if (round % 7 == 0)
                    rig.submit({.kind = Kind::flush}, {});
                rig.settle();
                for (const auto& [flight, read] : flights) {
                    REQUIRE(flight->result.has_value());
                    REQUIRE(*flight->result);
                    if (read)
                        REQUIRE(std::memcmp(flight->bytes.data(), shadow.data() + flight->offset,
                                            flight->bytes.size()) == 0);
                }
            }
            rig.queue.reset();
            rig.image.reset();
            auto again = open(path, format, true);
            std::vector<std::uint8_t> now(size);
            iovec all{now.data(), now.size()};
            REQUIRE(again->readv({&all, 1}, 0));
            CHECK(now == shadow);
            again.reset();
            auto report = disk::check({format, path}, false);
            REQUIRE(report);
            CHECK(report->corruptions + report->leaks == 0);
        }
    }
}

TEST_CASE("an asynchronous request that fails says why, and the next one works") {
    for (auto way : ways) {
        TemporaryDirectory directory;
        REQUIRE(disk::create_raw(directory / "a", MiB));
        Rig rig;
        rig.image = open(directory / "a", Format::raw);
        if (!rig.use(way))
            continue;
        std::filesystem::resize_file(directory / "a", 8192); // under our feet
        auto beyond = rig.submit({.kind = Kind::read, .offset_bytes = 4096},
                                 std::vector<std::uint8_t>(16384));
        auto outside = rig.submit({.kind = Kind::write, .offset_bytes = MiB - 512},
                                  std::vector<std::uint8_t>(1024));
        auto fine =
            rig.submit({.kind = Kind::read, .offset_bytes = 0}, std::vector<std::uint8_t>(4096, 1));
        rig.settle();
        REQUIRE_FALSE(*beyond->result);
        CHECK(beyond->result->error().text().find("the file ends at 8192") != std::string::npos);
        CHECK_FALSE(*outside->result);
        CHECK(*fine->result);
        CHECK(fine->bytes == std::vector<std::uint8_t>(4096));
    }
}

TEST_CASE("a queue that goes waits for its requests and answers none") {
    for (auto way : ways) {
        TemporaryDirectory directory;
        REQUIRE(disk::create_image(directory / "a", Format::qcow2, 64 * MiB));
        Rig rig;
        rig.image = open(directory / "a", Format::qcow2);
        if (!rig.use(way))
            continue;
        std::vector<std::shared_ptr<Flight>> flights;
        for (std::uint64_t i = 0; i < 200; ++i)
            flights.push_back(rig.submit(
                {.kind = i % 2 == 0 ? Kind::read : Kind::write, .offset_bytes = i * 300 * KiB},
                std::vector<std::uint8_t>(i % 5 == 0 ? 256 * KiB : 4096)));
        rig.queue->commit();
        rig.queue.reset();
        for (auto& flight : flights)
            std::vector<std::uint8_t>().swap(flight->bytes); // ASan watches who still writes there
        rig.loop.run_once(false);
        for (const auto& flight : flights)
            CHECK_FALSE(flight->result.has_value());
    }
}

TEST_CASE("a place in the file is told only where it is one and can stay") {
    TemporaryDirectory directory;
    REQUIRE(disk::create_raw(directory / "base.raw", MiB));
    REQUIRE(disk::create_overlay(directory / "a", {Format::raw, "base.raw"}, {}));
    auto image = open(directory / "a", Format::qcow2);
    auto below = image->direct(70'000, 512, false);
    REQUIRE(below);
    CHECK(below->offset_bytes == 70'000);
    CHECK_FALSE(image->direct(70'000, 512, true)); // has to be given one first
    std::vector<std::uint8_t> data(65536, 1);
    iovec vector{data.data(), data.size()};
    REQUIRE(image->writev({&vector, 1}, 65536));
    auto here = image->direct(70'000, 512, true);
    REQUIRE(here);
    CHECK(here->offset_bytes % 65536 == 70'000 - 65536);
    CHECK(here->fd != below->fd);
    CHECK_FALSE(image->direct(65'000, 1024, false));    // half of it below
    CHECK_FALSE(image->direct(MiB - 512, 1024, false)); // past the end
    CHECK_FALSE(image->direct(0, 0, false));
    here->hold.reset();
    image.reset();
    image = open(directory / "a", Format::qcow2);
    CHECK_FALSE(image->direct(70'000, 512, false)); // the table is not in memory
    vector.iov_len = 512;
    REQUIRE(image->readv({&vector, 1}, 70'000));
    CHECK(image->direct(70'000, 512, false));
}

namespace {

// An image over a descriptor that says where everything lies, and whose flushes can be held up.
class Open final : public disk::Image {
public:
    Open(std::unique_ptr<disk::Image> inner, int fd) : inner_(std::move(inner)), fd_(fd) {}
    const std::string& name() const override { return inner_->name(); }
    std::uint64_t size_bytes() const override { return inner_->size_bytes(); }
    bool read_only() const override { return false; }
    Result<void> readv(std::span<const iovec> into, std::uint64_t offset) override {
        ++elsewhere;
        return inner_->readv(into, offset);
    }
    Result<void> writev(std::span<const iovec> from, std::uint64_t offset) override {
        ++elsewhere;
        return inner_->writev(from, offset);
    }
    Result<void> flush() override {
        ++flushes;
        std::unique_lock guard(mutex);
        changed.wait(guard, [this] { return flushes_may_end; });
        return failing ? fail_errno(EIO, "flush") : Result<void>{};
    }
    std::optional<Direct> direct(std::uint64_t offset, std::uint64_t length, bool write) override {
        if (fd_ >= 0)
            return Direct{fd_, offset, nullptr};
        return inner_->direct(offset, length, write);
    }
    void let_flushes_end() {
        std::scoped_lock guard(mutex);
        flushes_may_end = true;
        changed.notify_all();
    }

    std::atomic<unsigned> flushes = 0, elsewhere = 0;
    std::mutex mutex;
    std::condition_variable changed;
    bool flushes_may_end = true;
    std::atomic<bool> failing = false;

private:
    std::unique_ptr<disk::Image> inner_;
    int fd_; // of all the data, or -1
};

struct OpenRig : Rig {
    TemporaryDirectory directory;
    Open* open_image;
    explicit OpenRig(int fd = -1, std::uint64_t size_bytes = 4 * MiB) {
        REQUIRE(disk::create_raw(directory / "a", size_bytes));
        auto made = std::make_unique<Open>(open(directory / "a", Format::raw), fd);
        open_image = made.get();
        image = std::move(made);
    }
};

} // namespace

TEST_CASE("requests for stable writes share flushes, and each is answered after one of its own") {
    for (auto way : ways) {
        for (bool failing : {false, true}) {
            OpenRig rig;
            if (!rig.use(way))
                continue;
            rig.open_image->failing = failing;
            rig.open_image->flushes_may_end = false;
            std::vector<std::shared_ptr<Flight>> flights;
            for (std::uint64_t i = 0; i < 40; ++i)
                flights.push_back(
                    rig.submit({.kind = Kind::write, .make_stable = true, .offset_bytes = i * 4096},
                               std::vector<std::uint8_t>(4096, 1)));
            rig.queue->commit();
            auto all_written = [&] {
                std::vector<std::uint8_t> now(40 * 4096);
                iovec vector{now.data(), now.size()};
                return rig.image->readv({&vector, 1}, 0) && now.back() == 1;
            };
            while (!all_written() || rig.open_image->flushes < limits::max_flushes_at_once)
                rig.loop.run_once(false);
            for (int i = 0; i < 10; ++i)
                rig.loop.run_once(false);
            CHECK(rig.waiting == 40); // none before a flush has ended
            CHECK(rig.open_image->flushes == limits::max_flushes_at_once);
            rig.open_image->let_flushes_end();
            rig.settle();
            CHECK(rig.open_image->flushes <= 2 * limits::max_flushes_at_once);
            for (const auto& flight : flights)
                CHECK(flight->result->has_value() == !failing);
            auto before = rig.open_image->flushes.load();
            rig.submit({.kind = Kind::flush}, {});
            rig.settle();
            CHECK(rig.open_image->flushes == before + 1);
        }
    }
}

TEST_CASE("what need not wait is done at the end of the turn, and that is told") {
    OpenRig rig;
    if (!rig.use(Way::ring_may_wait))
        return;
    auto written =
        rig.submit({.kind = Kind::write, .offset_bytes = 4096}, std::vector<std::uint8_t>(8192, 7));
    auto large =
        rig.submit({.kind = Kind::write, .offset_bytes = MiB}, std::vector<std::uint8_t>(MiB, 9));
    CHECK(rig.queue->at_hand() == 2);
    CHECK(rig.queue->running() == 2);
    rig.queue->commit();
    CHECK_FALSE(written->result.has_value()); // never inside commit()
    rig.loop.run_once(false);
    CHECK(written->result.has_value());
    CHECK(rig.queue->at_hand() == 0);
    CHECK(rig.served == 1);
    rig.settle();
    CHECK(large->result->has_value());
    auto read = rig.submit({.kind = Kind::read, .offset_bytes = MiB - 4096},
                           std::vector<std::uint8_t>(8192));
    rig.queue->commit();
    rig.loop.run_once(false);
    REQUIRE(read->result.has_value());
    CHECK(std::ranges::count(read->bytes, 9) == 4096);
    CHECK(rig.open_image->elsewhere == 0);
    // More than one turn's worth.
    std::vector<std::shared_ptr<Flight>> many;
    for (unsigned i = 0; i <= limits::max_inline_per_turn; ++i)
        many.push_back(rig.submit({.kind = Kind::read}, std::vector<std::uint8_t>(512)));
    rig.queue->commit();
    rig.loop.run_once(false);
    CHECK(rig.queue->at_hand() == 1);
    rig.settle();
}

TEST_CASE("data that is not in the host's memory is fetched by somebody else") {
    OpenRig rig;
    if (!rig.use(Way::ring_may_wait))
        return;
    rig.submit({.kind = Kind::write, .offset_bytes = 0}, std::vector<std::uint8_t>(128 * KiB, 5));
    rig.submit({.kind = Kind::write, .offset_bytes = MiB}, std::vector<std::uint8_t>(128 * KiB, 6));
    rig.settle();
    Fd file(::open((rig.directory / "a").c_str(), O_RDONLY | O_CLOEXEC));
    REQUIRE(::fdatasync(file.get()) == 0);
    REQUIRE(::posix_fadvise(file.get(), 0, 0, POSIX_FADV_DONTNEED) == 0);
    auto one = rig.submit({.kind = Kind::read}, std::vector<std::uint8_t>(128 * KiB));
    auto two =
        rig.submit({.kind = Kind::read, .offset_bytes = MiB}, std::vector<std::uint8_t>(128 * KiB));
    rig.settle();
    CHECK(one->bytes == std::vector<std::uint8_t>(128 * KiB, 5));
    CHECK(two->bytes == std::vector<std::uint8_t>(128 * KiB, 6));
}

TEST_CASE("copies that take long are shared, and all come back") {
    Fd slow(::open("/dev/urandom", O_RDONLY | O_CLOEXEC));
    REQUIRE(slow);
    OpenRig rig(slow.get());
    if (!rig.use(Way::ring_may_wait))
        return;
    for (int round = 0; round < 3; ++round) {
        std::vector<std::shared_ptr<Flight>> flights;
        for (int i = 0; i < 32; ++i)
            flights.push_back(
                rig.submit({.kind = Kind::read}, std::vector<std::uint8_t>(128 * KiB)));
        rig.settle();
        for (const auto& flight : flights) {
            REQUIRE(flight->result->has_value());
            CHECK(std::ranges::count(flight->bytes, 0) < 2048);
        }
    }
}

TEST_CASE("where the kernel refuses a ring, threads do the work") {
    TemporaryDirectory directory;
    REQUIRE(disk::create_raw(directory / "a", MiB));
    bool filtered = false, refused = false, answered = false;
    std::thread([&] { // whose filter ends with it
        sock_filter rules[] = {
            BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
            BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_io_uring_setup, 0, 1),
            BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
            BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
        };
        sock_fprog program{std::size(rules), rules};
        filtered = ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
                   ::prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
        Loop loop;
        auto image = open(directory / "a", Format::raw);
        auto ring = disk::create_ring_queue(loop, *image);
        refused = !ring && ring.error().kind() == ErrorKind::denied;
        auto queue = IoQueue::create(loop, *image);
        std::vector<std::uint8_t> bytes(4096, 1);
        iovec vector{bytes.data(), bytes.size()};
        queue->submit({.kind = Kind::read, .data = {&vector, 1}},
                      [&](Result<void> result) { answered = result.has_value(); });
        queue->commit();
        while (!answered)
            loop.run_once(true);
        answered = bytes == std::vector<std::uint8_t>(4096);
    })
        .join();
    CHECK(filtered);
    CHECK(refused);
    CHECK(answered);
}
