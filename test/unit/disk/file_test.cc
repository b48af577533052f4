#include <catch2/catch.hpp>

#include <filesystem>
#include <sys/stat.h>
#include <sys/wait.h>

#include "disk/disk.h"
#include "temporary.h"

using namespace vmhost;
using vmhost::test::TemporaryDirectory;

TEST_CASE("a created image is sparse, private and never overwrites") {
    TemporaryDirectory directory;
    auto path = directory / "a.raw";
    REQUIRE(disk::create_raw(path, 10 * MiB));
    struct stat status {};
    REQUIRE(::stat(path.c_str(), &status) == 0);
    CHECK(status.st_size == 10 * static_cast<off_t>(MiB));
    CHECK((status.st_mode & 07777) == 0600);
    CHECK(status.st_blocks == 0);
    auto again = disk::create_raw(path, 20 * MiB);
    REQUIRE_FALSE(again);
    CHECK(again.error().kind() == ErrorKind::exists);
    REQUIRE(::stat(path.c_str(), &status) == 0);
    CHECK(status.st_size == 10 * static_cast<off_t>(MiB));
}

TEST_CASE("a size that no file can have is refused and leaves nothing behind") {
    TemporaryDirectory directory;
    CHECK_FALSE(disk::create_raw(directory / "zero", 0));
    CHECK_FALSE(disk::create_raw(directory / "huge", UINT64_MAX));
    CHECK_FALSE(disk::create_raw(directory / "too-big-for-the-filesystem", INT64_MAX));
    CHECK_FALSE(std::filesystem::exists(directory / "too-big-for-the-filesystem"));
    CHECK_FALSE(std::filesystem::exists(directory / "huge"));
}

TEST_CASE("only regular files are images") {
    TemporaryDirectory directory;
    auto pipe = directory / "pipe";
    REQUIRE(::mkfifo(pipe.c_str(), 0600) == 0);
    for (auto path : {pipe, directory / "", std::string("/dev/null")}) {
        auto opened = disk::open_image(path, true);
        REQUIRE_FALSE(opened);
        CHECK(opened.error().kind() == ErrorKind::invalid);
        CHECK(opened.error().text() == "image " + path + ": not a regular file");
    }
    auto missing = disk::open_image(directory / "missing", true);
    REQUIRE_FALSE(missing);
    CHECK(missing.error().kind() == ErrorKind::not_found);
}

TEST_CASE("one writer or many readers hold an image") {
    TemporaryDirectory directory;
    auto path = directory / "a.raw";
    REQUIRE(disk::create_raw(path, MiB));
    auto writer = disk::open_image(path, false);
    auto other_writer = disk::open_image(path, false);
    auto reader = disk::open_image(path, true);
    auto other_reader = disk::open_image(path, true);
    REQUIRE((writer && other_writer && reader && other_reader));

    REQUIRE(disk::lock_image(*writer, false, "a.raw"));
    auto refused = disk::lock_image(*other_writer, false, "a.raw");
    REQUIRE_FALSE(refused);
    CHECK(refused.error().kind() == ErrorKind::busy);
    CHECK(refused.error().text() == "image a.raw is in use by another process");
    CHECK_FALSE(disk::lock_image(*reader, true, "a.raw"));

    writer->reset();
    CHECK(disk::lock_image(*reader, true, "a.raw"));
    CHECK(disk::lock_image(*other_reader, true, "a.raw"));
    CHECK_FALSE(disk::lock_image(*other_writer, false, "a.raw"));
}

TEST_CASE("the lock goes with the descriptor to a child and outlives the parent's copy") {
    TemporaryDirectory directory;
    auto path = directory / "a.raw";
    REQUIRE(disk::create_raw(path, MiB));
    auto ours = disk::open_image(path, false);
    REQUIRE(ours);
    REQUIRE(disk::lock_image(*ours, false, "a.raw"));
    int hold[2];
    REQUIRE(::pipe(hold) == 0);
    auto child = ::fork();
    if (child == 0) {
        ::close(hold[1]);
        char byte = 0;
        (void)!::read(hold[0], &byte, 1); // until the parent closes its end
        ::_exit(0);
    }
    ::close(hold[0]);
    ours->reset();
    auto other = disk::open_image(path, false);
    REQUIRE(other);
    CHECK_FALSE(disk::lock_image(*other, false, "a.raw"));
    ::close(hold[1]);
    int status = 0;
    REQUIRE(::waitpid(child, &status, 0) == child);
    CHECK(disk::lock_image(*other, false, "a.raw"));
}
