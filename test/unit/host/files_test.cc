// Files that have their name only once they are whole.
#include <catch2/catch.hpp>

#include <filesystem>
#include <unistd.h>

#include "host/files.h"

using namespace vmhost;
using namespace vmhost::host;

namespace {

struct Folder {
    std::filesystem::path path =
        std::filesystem::temp_directory_path() / fmt::format("vmhost-files-{}", ::getpid());
    Folder() { std::filesystem::create_directory(path); }
    ~Folder() { std::filesystem::remove_all(path); }
    bool empty() const { return std::filesystem::is_empty(path); }
};

} // namespace

TEST_CASE("a new file that was not kept leaves nothing, and one that was is there whole") {
    Folder folder;
    for (uid_t owner : {0U, 1000U}) {
        const auto path = (folder.path / fmt::format("{}.img", owner)).string();
        {
            auto file = NewFileOf::create(owner, path, "disk");
            REQUIRE(file);
            REQUIRE(::ftruncate(file->file().get(), 4096) == 0);
        }
        CHECK(folder.empty());
        {
            auto file = NewFileOf::create(owner, path, "disk").value();
            REQUIRE(::ftruncate(file.file().get(), 4096) == 0);
            REQUIRE(file.keep());
        }
        CHECK(std::filesystem::file_size(path) == 4096);
        CHECK(NewFileOf::create(owner, path, "disk").error().kind() == ErrorKind::exists);
        std::filesystem::remove(path);
    }
}

TEST_CASE("a new file is not made through the links of an owner who is not root") {
    Folder folder;
    std::filesystem::create_directory(folder.path / "real");
    std::filesystem::create_directory_symlink("real", folder.path / "link");
    const auto path = (folder.path / "link" / "a.img").string();
    CHECK(NewFileOf::create(1000, path, "disk").error().kind() == ErrorKind::denied);
    CHECK(NewFileOf::create(0, path, "disk"));
}

TEST_CASE("a new file does not replace one that came meanwhile") {
    Folder folder;
    const auto path = (folder.path / "a.img").string();
    auto one = NewFileOf::create(0, path, "disk").value();
    auto two = NewFileOf::create(0, path, "disk").value();
    REQUIRE(one.keep());
    CHECK(two.keep().error().kind() == ErrorKind::exists);
}

TEST_CASE("a new file takes the place of another one at once") {
    Folder folder;
    const auto path = (folder.path / "a.img").string();
    auto size = [&] { return std::filesystem::file_size(path); };
    REQUIRE(NewFileOf::create(0, path, "disk")->keep());
    for (uid_t owner : {0U, 1000U}) {
        const auto before = size();
        {
            auto file = NewFileOf::create_beside(owner, path, "disk");
            REQUIRE(file);
            REQUIRE(::ftruncate(file->file().get(), 4096 + owner) == 0);
            CHECK(size() == before);
            REQUIRE(file->prepare());
        }
        CHECK(size() == before); // it was given up
        CHECK_FALSE(std::filesystem::exists(path + ".new"));
        // What is left of one that was cut off.
        auto cut_off = NewFileOf::create(0, path + ".new", "disk").value();
        REQUIRE(cut_off.keep());
        auto file = NewFileOf::create_beside(owner, path, "disk").value();
        REQUIRE(::ftruncate(file.file().get(), 4096 + owner) == 0);
        REQUIRE(file.prepare());
        CHECK(size() == before);
        REQUIRE(file.replace());
        CHECK(size() == 4096 + owner);
        CHECK_FALSE(std::filesystem::exists(path + ".new"));
    }
    std::filesystem::create_directory_symlink(".", folder.path / "link");
    CHECK(NewFileOf::create_beside(1000, (folder.path / "link" / "a.img").string(), "disk")
              .error()
              .kind() == ErrorKind::denied);
}
