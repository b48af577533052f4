#include <catch2/catch.hpp>

#include <fcntl.h>
#include <numeric>
#include <thread>

#include "disk/disk.h"
#include "memory_storage.h"
#include "temporary.h"

using namespace vmhost;
using vmhost::test::TemporaryDirectory;

namespace {

std::unique_ptr<disk::Image> make_image(const std::string& path, std::uint64_t size_bytes) {
    REQUIRE(disk::create_raw(path, size_bytes));
    auto fd = disk::open_image(path, false);
    REQUIRE(fd);
    auto image = disk::Image::open_raw(std::move(*fd), false, "a.raw");
    REQUIRE(image);
    return std::move(*image);
}

std::vector<iovec> cut(std::vector<std::uint8_t>& data, std::size_t piece) {
    std::vector<iovec> vectors;
    for (std::size_t at = 0; at < data.size(); at += piece)
        vectors.push_back({data.data() + at, std::min(piece, data.size() - at)});
    return vectors;
}

} // namespace

TEST_CASE("what was written is read back, in any number of pieces") {
    TemporaryDirectory directory;
    auto image = make_image(directory / "a.raw", MiB);
    std::vector<std::uint8_t> data(40'000);
    std::iota(data.begin(), data.end(), std::uint8_t{3});
    // More pieces than one system call takes (IOV_MAX is 1024).
    auto out = cut(data, 7);
    REQUIRE(out.size() > 2 * 1024);
    REQUIRE(image->writev(out, 12'345));
    REQUIRE(image->flush());
    std::vector<std::uint8_t> back(data.size());
    auto in = cut(back, 11);
    in.insert(in.begin() + 5, iovec{nullptr, 0});
    REQUIRE(image->readv(in, 12'345));
    CHECK(back == data);
}

TEST_CASE("nothing reaches past the end of an image") {
    TemporaryDirectory directory;
    auto image = make_image(directory / "a.raw", 1024);
    std::vector<std::uint8_t> data(512, 1);
    auto vectors = cut(data, 512);
    CHECK(image->writev(vectors, 512));
    for (std::uint64_t offset : {std::uint64_t{513}, std::uint64_t{1024}, UINT64_MAX,
                                 UINT64_MAX - 511, std::uint64_t{1} << 63}) {
        auto written = image->writev(vectors, offset);
        REQUIRE_FALSE(written);
        CHECK(written.error().kind() == ErrorKind::invalid);
        CHECK_FALSE(image->readv(vectors, offset));
    }
    CHECK(std::string(image->name()) == "a.raw");
    CHECK(image->size_bytes() == 1024);
}

TEST_CASE("the rest of a last sector that the file cuts off reads as zeros") {
    TemporaryDirectory directory;
    auto image = make_image(directory / "a.raw", 1000);
    std::vector<std::uint8_t> data(488, 7);
    REQUIRE(image->writev(cut(data, 488), 512));
    std::vector<std::uint8_t> back(512, 9);
    REQUIRE(image->readv(cut(back, 100), 512));
    CHECK(std::all_of(back.begin(), back.begin() + 488, [](auto byte) { return byte == 7; }));
    CHECK(std::all_of(back.begin() + 488, back.end(), [](auto byte) { return byte == 0; }));
    CHECK_FALSE(image->writev(cut(back, 512), 512)); // the image does not grow
    CHECK_FALSE(image->readv(cut(back, 512), 1024));
}

TEST_CASE("a file that shrinks below its image is an error, not zeros") {
    TemporaryDirectory directory;
    auto path = directory / "a.raw";
    auto image = make_image(path, MiB);
    REQUIRE(::truncate(path.c_str(), 4096) == 0);
    std::vector<std::uint8_t> data(8192);
    auto read = image->readv(cut(data, 8192), 0);
    REQUIRE_FALSE(read);
    CHECK(read.error().kind() == ErrorKind::corrupt);
}

TEST_CASE("a read-only image takes no writes") {
    TemporaryDirectory directory;
    auto path = directory / "a.raw";
    REQUIRE(disk::create_raw(path, 4096));
    auto image = disk::Image::open_raw(std::move(*disk::open_image(path, true)), true, "a.raw");
    REQUIRE(image);
    CHECK((*image)->read_only());
    std::vector<std::uint8_t> data(512);
    auto written = (*image)->writev(cut(data, 512), 0);
    REQUIRE_FALSE(written);
    CHECK(written.error().kind() == ErrorKind::denied);
    CHECK((*image)->readv(cut(data, 512), 0));
    CHECK((*image)->flush());
}

TEST_CASE("what is not an image is refused") {
    TemporaryDirectory directory;
    Fd null(::open("/dev/null", O_RDWR | O_CLOEXEC));
    CHECK_FALSE(disk::Image::open_raw(std::move(null), false, "null"));
    CHECK_FALSE(disk::Image::open_raw(Fd(), false, "nothing"));
    auto path = directory / "tiny";
    Fd tiny(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
    CHECK_FALSE(disk::Image::open_raw(std::move(tiny), false, "tiny"));
}

TEST_CASE("threads read and write one image at once") {
    TemporaryDirectory directory;
    auto image = make_image(directory / "a.raw", MiB);
    std::atomic<int> failures = 0;
    auto job = [&](std::uint8_t mark) {
        for (unsigned round = 0; round < 200; ++round) {
            std::vector<std::uint8_t> data(4096, mark), back(4096);
            auto offset = mark * 8192ULL + 4096 * (round % 2);
            if (!image->writev(cut(data, 1000), offset) || !image->readv(cut(back, 900), offset) ||
                back != data)
                ++failures;
        }
    };
    std::vector<std::jthread> threads;
    for (std::uint8_t mark = 1; mark <= 4; ++mark)
        threads.emplace_back(job, mark);
    threads.clear();
    CHECK(failures == 0);
}

TEST_CASE("discard and zeroes give space back and read as zeros") {
    TemporaryDirectory directory;
    auto path = directory / "a.raw";
    auto image = make_image(path, MiB);
    std::vector<std::uint8_t> data(MiB, 5), back(MiB);
    REQUIRE(image->writev(cut(data, MiB), 0));
    REQUIRE(image->flush());
    REQUIRE(image->discard(64 * KiB, 512 * KiB));
    REQUIRE(image->write_zeroes(700 * KiB + 1, 1000, false));
    REQUIRE(image->write_zeroes(800 * KiB, 100 * KiB, true));
    std::fill_n(data.begin() + 64 * KiB, 512 * KiB, std::uint8_t{0});
    std::fill_n(data.begin() + 700 * KiB + 1, 1000, std::uint8_t{0});
    std::fill_n(data.begin() + 800 * KiB, 100 * KiB, std::uint8_t{0});
    REQUIRE(image->readv(cut(back, MiB), 0));
    CHECK(back == data);
    CHECK(std::filesystem::file_size(path) == MiB);
    for (std::uint64_t at = 0; at < MiB;) {
        auto extent = image->extent_at(at);
        REQUIRE(extent);
        REQUIRE(extent->length_bytes > 0);
        if (extent->zero)
            CHECK(std::all_of(back.begin() + static_cast<long>(at),
                              back.begin() + static_cast<long>(at + extent->length_bytes),
                              [](auto byte) { return byte == 0; }));
        at += extent->length_bytes;
    }
    CHECK_FALSE(image->extent_at(MiB));
    CHECK_FALSE(image->discard(MiB - 1, 2));
    CHECK_FALSE(image->write_zeroes(1, UINT64_MAX, true));
}

TEST_CASE("a raw image whose write was lost once is never flushed again") {
    auto disk = std::make_shared<test::Disk>();
    disk->bytes.resize(1 * MiB);
    auto image = disk::raw_image(std::make_unique<test::MemoryStorage>(disk), false, 1 * MiB);
    CHECK(image->flush());
    disk->fail_sync = true;
    CHECK(image->flush().error().text() == "image test: sync: Input/output error");
    auto later = image->flush();
    REQUIRE_FALSE(later);
    CHECK(later.error().kind() == ErrorKind::io);
    CHECK(later.error().message().find("an earlier flush failed") != std::string::npos);
}
