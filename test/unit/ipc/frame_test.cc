// Frames in pieces, and peers that break the rules.

#include <catch2/catch.hpp>

#include <fcntl.h>

#include "ipc/ipc.h"

using namespace vmhost;
using namespace vmhost::ipc;

namespace {

Fd null_device() {
    return Fd(::open("/dev/null", O_RDONLY | O_CLOEXEC));
}

bool is_open(int number) {
    return ::fcntl(number, F_GETFD) >= 0;
}

std::vector<Fd> fds(int count) {
    std::vector<Fd> list;
    for (int i = 0; i < count; ++i)
        list.push_back(null_device());
    return list;
}

std::vector<std::uint8_t> head(std::uint32_t magic, std::uint32_t length, std::uint16_t fd_count) {
    ByteWriter writer;
    writer.le(magic);
    writer.le(length);
    writer.le(std::uint16_t{9});
    writer.le(fd_count);
    return writer.take();
}

} // namespace

TEST_CASE("the head of a frame stands as described") {
    Frame frame{0x0102, {0xaa, 0xbb}, {}};
    CHECK(frame_bytes(frame) ==
          std::vector<std::uint8_t>{'V', 'M', 'H', '1', 2, 0, 0, 0, 2, 1, 0, 0, 0xaa, 0xbb});
}

TEST_CASE("frames arrive byte by byte") {
    FrameReader reader;
    auto bytes = frame_bytes({1, {1, 2, 3}, fds(1)});
    auto second = frame_bytes({2, {}, {}});
    bytes.insert(bytes.end(), second.begin(), second.end());
    std::vector<Frame> got;
    for (std::size_t i = 0; i < bytes.size(); ++i) {
        auto frames = reader.feed(Bytes(bytes).subspan(i, 1), i == 0 ? fds(1) : fds(0));
        REQUIRE(frames);
        for (auto& frame : *frames)
            got.push_back(std::move(frame));
        CHECK(reader.between_frames() == (i + 1 == 15 || i + 1 == bytes.size()));
    }
    REQUIRE(got.size() == 2);
    CHECK(got[0].type == 1);
    CHECK(got[0].payload == std::vector<std::uint8_t>{1, 2, 3});
    CHECK(got[0].fds.size() == 1);
    CHECK(got[1].type == 2);
    CHECK(got[1].payload.empty());
}

TEST_CASE("several frames in one piece keep their descriptors apart") {
    FrameReader reader;
    std::vector<std::uint8_t> bytes;
    for (int count : {2, 0, 1}) {
        auto one = frame_bytes({static_cast<std::uint16_t>(count), {7}, fds(count)});
        bytes.insert(bytes.end(), one.begin(), one.end());
    }
    auto list = fds(3);
    int third = list[2].get();
    auto frames = reader.feed(bytes, std::move(list));
    REQUIRE(frames);
    REQUIRE(frames->size() == 3);
    CHECK((*frames)[0].fds.size() == 2);
    CHECK((*frames)[1].fds.empty());
    REQUIRE((*frames)[2].fds.size() == 1);
    CHECK((*frames)[2].fds[0].get() == third);
}

TEST_CASE("a broken frame is refused at once and for good") {
    FrameReader reader;
    auto wrong =
        GENERATE(as<std::vector<std::uint8_t>>{}, head(frame_magic + 1, 0, 0),
                 head(frame_magic, limits::max_frame_bytes + 1, 0),
                 head(frame_magic, 0xffffffff, 0), head(frame_magic, 0, limits::max_frame_fds + 1));
    CHECK_FALSE(reader.feed(wrong, {}));
    CHECK_FALSE(reader.feed(frame_bytes({1, {}, {}}), {}));
}

TEST_CASE("the largest frame passes") {
    FrameReader reader;
    Frame frame{1, std::vector<std::uint8_t>(limits::max_frame_bytes, 5), {}};
    auto frames = reader.feed(frame_bytes(frame), {});
    REQUIRE(frames);
    REQUIRE(frames->size() == 1);
    CHECK((*frames)[0].payload == frame.payload);
}

TEST_CASE("descriptors that no frame announced are closed") {
    SECTION("too many") {
        FrameReader reader;
        auto list = fds(2);
        int first = list[0].get(), second = list[1].get();
        CHECK_FALSE(reader.feed(frame_bytes({1, {}, fds(1)}), std::move(list)));
        CHECK_FALSE(is_open(first));
        CHECK_FALSE(is_open(second));
    }
    SECTION("too few") {
        FrameReader reader;
        auto list = fds(1);
        int first = list[0].get();
        CHECK_FALSE(reader.feed(frame_bytes({1, {}, fds(2)}), std::move(list)));
        CHECK_FALSE(is_open(first));
    }
    SECTION("with a frame that is not complete") {
        FrameReader reader;
        auto bytes = frame_bytes({1, {1, 2}, {}});
        bytes.pop_back();
        auto list = fds(1);
        int first = list[0].get();
        CHECK_FALSE(reader.feed(bytes, std::move(list)));
        CHECK_FALSE(is_open(first));
    }
    SECTION("hoarded in front of a head") {
        FrameReader reader;
        auto bytes = frame_bytes({1, {}, {}});
        CHECK_FALSE(reader.feed(Bytes(bytes).first(1), fds(limits::max_frame_fds + 1)));
    }
}
