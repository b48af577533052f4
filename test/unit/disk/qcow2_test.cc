// qcow2 against a flat shadow, and against crashes at every moment.
#include <catch2/catch.hpp>

#include <map>
#include <set>
#include <thread>

#include "disk/qcow2/check.h"
#include "disk/qcow2/image.h"
#include "memory_storage.h"

using namespace vmhost;
using test::Disk;
using test::MemoryStorage;
namespace qcow2 = disk::qcow2;

namespace {

using Random = std::mt19937_64;
using ImagePointer = std::unique_ptr<disk::Image>;

std::uint64_t below(Random& random, std::uint64_t limit) {
    return random() % limit;
}

Result<void> read_at(disk::Image& image, std::uint64_t offset, MutableBytes into) {
    iovec vector{into.data(), into.size()};
    return image.readv({&vector, 1}, offset);
}
Result<void> write_at(disk::Image& image, std::uint64_t offset, Bytes from) {
    iovec vector{const_cast<std::uint8_t*>(from.data()), from.size()};
    return image.writev({&vector, 1}, offset);
}

struct Shape {
    std::uint64_t size_bytes;
    unsigned cluster_bits;
    std::uint32_t version;
    std::uint64_t base_bytes; // 0 = no base
};

// An image, what lies below it, and what it must read as.
struct Bench {
    explicit Bench(Shape of, Random& by) : shape(of), random(by), shadow(of.size_bytes) {
        qcow2::NewImage plan{.size_bytes = shape.size_bytes,
                             .cluster_bits = shape.cluster_bits,
                             .version = shape.version};
        if (shape.base_bytes > 0) {
            plan.backing_file = "base";
            MemoryStorage file(base);
            REQUIRE(qcow2::format(file, {.size_bytes = shape.base_bytes, .cluster_bits = 12}));
            auto image = open_base(false);
            std::vector<std::uint8_t> data(shape.base_bytes / 2);
            for (auto& byte : data)
                byte = static_cast<std::uint8_t>(random());
            REQUIRE(write_at(*image, shape.base_bytes / 4, data));
            std::copy_n(data.begin(), std::min(data.size(), shadow.size() - shape.base_bytes / 4),
                        shadow.begin() + static_cast<long>(shape.base_bytes / 4));
        }
        MemoryStorage file(top);
        REQUIRE(qcow2::format(file, plan));
    }
    ImagePointer open_base(bool read_only) {
        auto image = qcow2::open(std::make_unique<MemoryStorage>(base), nullptr, read_only);
        REQUIRE(image);
        return std::move(*image);
    }
    ImagePointer open(std::shared_ptr<Disk> on) {
        auto image = qcow2::open(std::make_unique<MemoryStorage>(std::move(on)),
                                 shape.base_bytes > 0 ? open_base(true) : nullptr, false);
        if (!image)
            FAIL(image.error().message());
        return std::move(*image);
    }
    Shape shape;
    Random& random;
    std::shared_ptr<Disk> base = std::make_shared<Disk>(), top = std::make_shared<Disk>();
    std::vector<std::uint8_t> shadow;
};

void require_sound(const std::shared_ptr<Disk>& on, bool leaks_allowed) {
    MemoryStorage file(on);
    auto report = qcow2::check(file, false);
    if (!report)
        FAIL(report.error().message());
    for (const auto& message : report->messages)
        if (report->corruptions > 0 || !leaks_allowed)
            UNSCOPED_INFO(message);
    REQUIRE(report->corruptions == 0);
    if (!leaks_allowed)
        REQUIRE(report->leaks == 0);
}

struct Change {
    std::uint64_t offset = 0;
    std::vector<std::uint8_t> bytes;
};

// One random change to image and shadow; false = it was a flush.
bool step(Bench& bench, disk::Image& image, std::vector<Change>* changes) {
    auto& random = bench.random;
    auto size = bench.shape.size_bytes;
    auto longest = std::min<std::uint64_t>({size, 256 * KiB, 5ULL << bench.shape.cluster_bits});
    auto offset = below(random, size);
    auto length = 1 + below(random, std::min(longest, size - offset));
    if (below(random, 2) == 0) { // sectors, as guests do
        offset = offset / 512 * 512;
        length = std::min(size - offset, (length + 511) / 512 * 512);
    }
    auto at = bench.shadow.begin() + static_cast<long>(offset);
    auto note = [&] {
        if (changes != nullptr)
            changes->push_back({offset, {at, at + static_cast<long>(length)}});
    };
    switch (below(random, 10)) {
    case 0:
    case 1: {
        bool may_unmap = below(random, 2) == 0;
        REQUIRE(image.write_zeroes(offset, length, may_unmap));
        std::fill_n(at, length, std::uint8_t{0});
        note();
        return true;
    }
    case 2: { // each byte as before or zero; the shadow learns which
        REQUIRE(image.discard(offset, length));
        std::vector<std::uint8_t> now(length);
        REQUIRE(read_at(image, offset, now));
        bool possible = true;
        for (std::size_t i = 0; i < length; ++i)
            possible &= now[i] == 0 || now[i] == at[static_cast<long>(i)];
        REQUIRE(possible);
        std::ranges::copy(now, at);
        note();
        return true;
    }
    case 3:
        REQUIRE(image.flush());
        return false;
    default: {
        std::vector<std::uint8_t> data(length);
        auto mark = random();
        for (std::size_t i = 0; i < length; ++i)
            data[i] = static_cast<std::uint8_t>((mark >> i % 8 * 8) + i);
        REQUIRE(write_at(image, offset, data));
        std::ranges::copy(data, at);
        note();
        return true;
    }
    }
}

void require_equal(disk::Image& image, const std::vector<std::uint8_t>& shadow) {
    std::vector<std::uint8_t> now(shadow.size());
    REQUIRE(read_at(image, 0, now));
    if (now != shadow) {
        auto different = std::ranges::mismatch(now, shadow);
        INFO("differs at " << different.in1 - now.begin());
        FAIL();
    }
}

const Shape shapes[] = {
    {200'000, 9, 3, 0},          {300'032, 9, 2, 0},        {1'000'448, 12, 3, 600'064},
    {1'000'448, 12, 2, 600'064}, {MiB + 512, 16, 3, 0},     {MiB, 16, 3, 2 * MiB},
    {5 * MiB, 21, 3, MiB},       {777'728, 10, 3, 700'928},
};

} // namespace

TEST_CASE("qcow2 reads as a flat disk would, whatever is done to it") {
    for (std::uint64_t seed = 0; seed < 6; ++seed) {
        Random random(seed);
        Bench bench(shapes[seed % std::size(shapes)], random);
        INFO("seed " << seed);
        auto image = bench.open(bench.top);
        for (int round = 0; round < 100; ++round) {
            (void)step(bench, *image, nullptr);
            if (round % 20 == 0)
                require_equal(*image, bench.shadow);
            if (below(random, 50) == 0) {
                image.reset();
                require_sound(bench.top, false);
                image = bench.open(bench.top);
            }
            // What extent_at calls zero is zero.
            auto offset = below(random, bench.shape.size_bytes);
            auto extent = image->extent_at(offset);
            REQUIRE(extent);
            REQUIRE(extent->length_bytes > 0);
            REQUIRE(offset + extent->length_bytes <= bench.shape.size_bytes);
            auto* at = &bench.shadow[offset];
            if (extent->zero)
                REQUIRE((*at == 0 && std::memcmp(at, at + 1, extent->length_bytes - 1) == 0));
        }
        image.reset();
        require_sound(bench.top, false);
        image = bench.open(bench.top);
        require_equal(*image, bench.shadow);
    }
}

TEST_CASE("cloud-hypervisor 8606: no crash at any moment costs a flushed byte or the image") {
    const Shape small[] = {{100'000, 9, 3, 0},       {90'112, 9, 2, 0},
                           {150'016, 10, 3, 90'112}, {200'704, 12, 3, 102'400},
                           {200'704, 12, 2, 0},      {500'224, 16, 3, 300'032}};
    for (std::uint64_t seed = 0; seed < 3; ++seed) {
        INFO("seed " << seed);
        Random random(seed);
        Bench bench(small[seed % std::size(small)], random);
        auto start = bench.top->bytes;
        auto flushed = bench.shadow;
        bench.top->logging = true;
        // For each flush: how long the log was before and after, and the disk it vouches for.
        struct Mark {
            std::size_t log;
            std::vector<std::uint8_t> shadow;
        };
        std::vector<Mark> marks{{0, flushed}};
        std::vector<std::pair<std::size_t, Change>> changes; // log length before it
        auto image = bench.open(bench.top);
        for (int round = 0; round < 60; ++round) {
            std::vector<Change> made;
            auto before = bench.top->log.size();
            if (!step(bench, *image, &made))
                marks.push_back({bench.top->log.size(), bench.shadow});
            for (auto& change : made)
                changes.emplace_back(before, std::move(change));
        }
        REQUIRE(image->flush());
        const auto log = bench.top->log;
        bench.top->logging = false;

        // Every flush in turn, and every point where the disk was told to be stable.
        auto replay = std::make_shared<Disk>();
        replay->bytes = start;
        auto next = marks.begin();
        for (std::size_t done = 0;; ++done) {
            INFO("replay of " << done << " of " << log.size());
            for (; next != marks.end() && next->log == done; ++next) {
                require_sound(replay, false);
                auto copy = std::make_shared<Disk>();
                copy->bytes = replay->bytes;
                require_equal(*bench.open(copy), next->shadow);
            }
            if (done == log.size())
                break;
            replay->apply(log[done]);
            if (log[done].what == Disk::Step::What::sync)
                require_sound(replay, true);
        }
        REQUIRE(next == marks.end());

        for (int crash = 0; crash < 25; ++crash) {
            auto stop = below(random, log.size() + 1);
            std::size_t synced = 0;
            for (std::size_t i = 0; i < stop; ++i)
                if (log[i].what == Disk::Step::What::sync)
                    synced = i;
            auto left = std::make_shared<Disk>();
            left->bytes = start;
            bool all = below(random, 4) == 0, none = below(random, 4) == 0;
            for (std::size_t i = 0; i < stop; ++i)
                if (i < synced || all || (!none && below(random, 2) == 0))
                    left->apply(log[i]);
            INFO("crash after " << stop << " of " << log.size() << ", synced " << synced);
            require_sound(left, true);
            // Each byte is what the last flush vouched for, or something written since.
            const Mark* last = &marks.front();
            for (const auto& mark : marks)
                if (mark.log <= stop)
                    last = &mark;
            auto again = bench.open(left);
            std::vector<std::uint8_t> now(bench.shape.size_bytes);
            REQUIRE(read_at(*again, 0, now));
            std::vector<std::uint8_t> fine(now.size(), 1);
            for (std::size_t i = 0; i < now.size(); i += 512) {
                auto length = std::min<std::size_t>(512, now.size() - i);
                if (std::memcmp(&now[i], &last->shadow[i], length) != 0)
                    for (auto j = i; j < i + length; ++j)
                        fine[j] = now[j] == last->shadow[j];
            }
            for (const auto& [at, change] : changes)
                if (at >= last->log && at <= stop)
                    for (std::size_t i = 0; i < change.bytes.size(); ++i)
                        fine[change.offset + i] |= now[change.offset + i] == change.bytes[i];
            auto bad = std::ranges::find(fine, 0);
            INFO("differs at " << bad - fine.begin());
            REQUIRE(bad == fine.end());
            // And life goes on.
            bench.shadow = now;
            for (int round = 0; round < 5; ++round)
                (void)step(bench, *again, nullptr);
            require_equal(*again, bench.shadow);
            again.reset();
            require_sound(left, true);
            MemoryStorage file(left);
            auto report = qcow2::check(file, true);
            REQUIRE(report);
            REQUIRE(report->leaks == report->leaks_repaired);
            require_sound(left, false);
        }
    }
}

TEST_CASE("a full host disk fails requests and damages nothing") {
    for (std::uint64_t seed = 0; seed < 4; ++seed) {
        Random random(seed);
        Bench bench({2 * MiB, 12, 3, 0}, random);
        auto image = bench.open(bench.top);
        bench.top->fail_after = 5 + below(random, 200);
        std::vector<std::uint8_t> data(3000, 7);
        unsigned failed = 0;
        for (int round = 0; round < 200; ++round) {
            auto offset = below(random, 2 * MiB - data.size());
            failed += !write_at(*image, offset, data);
            if (round % 10 == 0)
                failed += !image->flush();
            if (below(random, 40) == 0 && failed > 0)
                bench.top->fail_after = below(random, 40);
        }
        CHECK(failed > 0);
        require_sound(bench.top, true);
        bench.top->fail_after = UINT64_MAX;
        CHECK(image->flush());
        CHECK(write_at(*image, 5, data));
        image.reset();
        require_sound(bench.top, true);
    }
}

TEST_CASE("threads share one qcow2 image") {
    Random random(1);
    Bench bench({4 * MiB, 12, 3, 4 * MiB}, random);
    auto image = bench.open(bench.top);
    std::atomic<int> failures = 0;
    // Each owns every fourth KiB: all meet in every cluster.
    auto job = [&](unsigned mine) {
        Random own(mine);
        std::map<std::uint64_t, std::uint8_t> wrote;
        for (int round = 0; round < 400; ++round) {
            auto offset = (below(own, 1024) * 4 + mine) * KiB;
            std::vector<std::uint8_t> data(KiB, static_cast<std::uint8_t>(own())), back(KiB);
            switch (below(own, 8)) {
            case 0:
                failures += !image->write_zeroes(offset, KiB, true);
                data.assign(KiB, 0);
                break;
            case 1:
                failures += !image->flush();
                [[fallthrough]];
            default:
                failures += !write_at(*image, offset, data);
            }
            wrote[offset] = data[0];
            auto& [at, value] =
                *std::next(wrote.begin(), static_cast<long>(below(own, wrote.size())));
            failures += !read_at(*image, at, back);
            failures += back != std::vector<std::uint8_t>(KiB, value);
        }
    };
    std::vector<std::jthread> threads;
    for (unsigned mine = 0; mine < 4; ++mine)
        threads.emplace_back(job, mine);
    threads.clear();
    CHECK(failures == 0);
    image.reset();
    require_sound(bench.top, false);
}
