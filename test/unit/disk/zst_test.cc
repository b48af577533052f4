// Compressed templates: what we write, others expand and we read back; damage is an error.
#include <catch2/catch.hpp>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <random>

#include "disk/disk.h"
#include "temporary.h"

using namespace vmhost;
using disk::Format;
using vmhost::test::TemporaryDirectory;

namespace {

std::vector<std::uint8_t> contents(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
}
void put(const std::string& path, Bytes bytes) {
    std::ofstream(path, std::ios::binary | std::ios::trunc)
        .write(reinterpret_cast<const char*>(bytes.data()), static_cast<long>(bytes.size()));
}

// Text, noise and a hole; not a whole number of frames.
std::vector<std::uint8_t> sample() {
    std::vector<std::uint8_t> bytes(5 * MiB + 3 * 512);
    std::mt19937 random(1);
    for (std::size_t i = 0; i < MiB; ++i)
        bytes[i] = static_cast<std::uint8_t>(i / 77);
    for (std::size_t i = 2 * MiB; i < 3 * MiB + 100; ++i)
        bytes[i] = static_cast<std::uint8_t>(random());
    bytes.back() = 9;
    return bytes;
}

Result<std::unique_ptr<disk::Image>> open(const std::string& path) {
    return disk::Image::open_zst(TRY(disk::open_image(path, true)), path);
}
std::string refusal(const std::string& path) {
    auto image = open(path);
    return image ? "" : image.error().text();
}

} // namespace

TEST_CASE("a compressed template reads as what was compressed, and expands again") {
    TemporaryDirectory directory;
    auto plain = sample();
    put(directory / "a.raw", plain);
    std::uint64_t last = 0;
    auto made = disk::compress({Format::raw, directory / "a.raw"}, directory / "a.zst", 3,
                               [&](std::uint64_t done, std::uint64_t) { last = done; });
    REQUIRE(made);
    CHECK(last == plain.size());
    CHECK(*made == std::filesystem::file_size(directory / "a.zst"));
    CHECK(*made < 2 * MiB);
    auto image = open(directory / "a.zst");
    REQUIRE(image);
    CHECK((*image)->size_bytes() == plain.size());
    CHECK((*image)->read_only());
    std::mt19937_64 random(2);
    for (int i = 0; i < 100; ++i) {
        auto offset = random() % plain.size();
        std::vector<std::uint8_t> back(1 + random() % (plain.size() - offset));
        iovec vector{back.data(), back.size()};
        REQUIRE((*image)->readv({&vector, 1}, offset));
        REQUIRE(std::memcmp(back.data(), plain.data() + offset, back.size()) == 0);
    }
    std::uint8_t byte = 0;
    iovec vector{&byte, 1};
    CHECK_FALSE((*image)->readv({&vector, 1}, plain.size()));
    CHECK_FALSE((*image)->writev({&vector, 1}, 0));
    CHECK(disk::check({Format::zst, directory / "a.zst"}, false)->corruptions == 0);
    CHECK(disk::inspect({Format::zst, directory / "a.zst"})->size_bytes == plain.size());

    // Below a qcow2 image, and as the source of a copy.
    REQUIRE(disk::create_overlay(directory / "b", {Format::zst, "a.zst"}, {}));
    auto layers = disk::open_chain(directory / "b", Format::qcow2, false, true);
    REQUIRE(layers);
    auto top = disk::Image::open(std::move(*layers), false);
    REQUIRE(top);
    byte = 7;
    REQUIRE((*top)->writev({&vector, 1}, 1000));
    plain[1000] = 7;
    std::vector<std::uint8_t> back(plain.size());
    iovec all{back.data(), back.size()};
    REQUIRE((*top)->readv({&all, 1}, 0));
    CHECK(back == plain);
    top->reset();
    REQUIRE(disk::convert({Format::qcow2, directory / "b"}, directory / "c", Format::raw, {}, {}));
    auto copy = contents(directory / "c");
    CHECK(copy.size() == 6 * MiB);
    CHECK(std::equal(plain.begin(), plain.end(), copy.begin()));
    CHECK(disk::inspect({Format::raw, directory / "c"})->allocated_bytes < 4 * MiB);

    CHECK_FALSE(disk::compress({Format::raw, directory / "a.raw"}, directory / "a.zst", 3, {}));
    CHECK_FALSE(disk::compress({Format::raw, directory / "a.raw"}, directory / "d", 99, {}));
    CHECK_FALSE(disk::compress({Format::raw, directory / "none"}, directory / "d", 3, {}));
    CHECK_FALSE(std::filesystem::exists(directory / "d"));
    if (std::system("zstd --version >/dev/null 2>&1") == 0) {
        auto command = "zstd -q -d " + (directory / "a.zst") + " -o " + (directory / "e");
        REQUIRE(std::system(command.c_str()) == 0);
        CHECK(contents(directory / "e") == contents(directory / "a.raw"));
    } else {
        WARN("zstd is not installed: nobody else has expanded our image");
    }
}

TEST_CASE("a compressed template that was damaged is refused or fails to read") {
    TemporaryDirectory directory;
    put(directory / "a.raw", sample());
    REQUIRE(disk::compress({Format::raw, directory / "a.raw"}, directory / "good", 1, {}));
    const auto good = contents(directory / "good");
    const auto rows = good.size() - 9 - 6 * 8; // of six frames
    auto with = [&](std::size_t offset, std::vector<std::uint8_t> bytes) {
        auto bad = good;
        std::ranges::copy(bytes, bad.begin() + static_cast<long>(offset));
        put(directory / "bad", bad);
        return refusal(directory / "bad");
    };
    using Catch::Contains;
    CHECK(with(0, {}) == "");
    CHECK_THAT(with(good.size() - 1, {0}), Contains("no table of frames"));
    CHECK_THAT(with(good.size() - 5, {4}), Contains("unknown features"));
    CHECK_THAT(with(good.size() - 5, {0x80}), Contains("does not begin where it should"));
    CHECK_THAT(with(good.size() - 9, {0, 0, 0, 0}), Contains("0 frames"));
    CHECK_THAT(with(good.size() - 9, {1, 0, 0x40, 0}), Contains("4194305 frames"));
    CHECK_THAT(with(good.size() - 9, {0, 0, 0x40, 0}), Contains("longer than the file"));
    CHECK_THAT(with(good.size() - 9, {5}), Contains("does not begin where it should"));
    CHECK_THAT(with(rows, {0, 0, 0, 0}), Contains("frame 0 has 0 bytes"));
    CHECK_THAT(with(rows + 4, {1, 0, 0, 1}), Contains("at most 16777216"));
    CHECK_THAT(with(rows, {1}), Contains("its frames end at"));
    put(directory / "bad", Bytes(good).first(10));
    CHECK_THAT(refusal(directory / "bad"), Contains("too short"));

    auto reads = [&] {
        auto image = open(directory / "bad");
        REQUIRE(image);
        std::vector<std::uint8_t> bytes(1000);
        iovec vector{bytes.data(), bytes.size()};
        auto read = (*image)->readv({&vector, 1}, 0);
        auto other = (*image)->readv({&vector, 1}, 4 * MiB); // the rest is as good as ever
        CHECK(other);
        CHECK(disk::check({Format::zst, directory / "bad"}, false)->corruptions > 0);
        return read ? "" : read.error().text();
    };
    CHECK(with(rows + 4, {0, 0, 0x0f}) == ""); // says less than the frame holds
    CHECK_THAT(reads(), Contains("does not expand"));
    CHECK(with(rows + 4, {0, 0, 0x11}) == ""); // says more
    CHECK_THAT(reads(), Contains("has 1048576 bytes, not"));
    CHECK(with(30, {0xff, 0xff, 0xff}) == ""); // a flipped byte: the frame's checksum
    CHECK_THAT(reads(), Contains("does not expand"));
}
