// What is served of a directory, and what is not.
#include <catch2/catch.hpp>

#include <sys/stat.h>
#include <unistd.h>

#include "folder.h"
#include "tftp/files.h"

using namespace vmhost;
using namespace vmhost::test;
using namespace vmhost::tftp;

TEST_CASE("tftp: regular files beneath the directory are served, and nothing else") {
    Folder folder, outside;
    folder.file("pxeboot", "boot");
    folder.file("amd64/bsd.rd", bytes(3000));
    folder.file(".hidden", "secret");
    folder.file("amd64/.hidden/x", "secret");
    outside.file("secret", "secret");
    std::filesystem::create_symlink("amd64/bsd.rd", folder.path + "/bsd");
    std::filesystem::create_symlink(outside.path + "/secret", folder.path + "/out");
    std::filesystem::create_symlink("../" + outside.path.substr(outside.path.rfind('/') + 1),
                                    folder.path + "/up");
    std::filesystem::create_symlink("loop", folder.path + "/loop");
    REQUIRE(::mkfifo((folder.path + "/fifo").c_str(), 0600) == 0);
    auto directory = folder.open();

    for (auto [name, size] : {std::pair("pxeboot", 4u), std::pair("/pxeboot", 4u),
                              std::pair("//amd64/bsd.rd", 3000u), std::pair("bsd", 3000u)}) {
        INFO(name);
        auto file = open_file(directory, name);
        REQUIRE(file);
        CHECK(file->size_bytes == size);
    }
    for (auto bad : {"",
                     "/",
                     "..",
                     "../x",
                     "amd64/../pxeboot",
                     "amd64/..",
                     "./pxeboot",
                     ".hidden",
                     "amd64/.hidden/x",
                     "amd64//bsd.rd",
                     "amd64/",
                     "amd64",
                     "none",
                     "out",
                     "up/secret",
                     "loop",
                     "fifo",
                     "amd64\\bsd.rd",
                     "pxeboot\n",
                     "pxeb\xc3\xb6t"}) {
        INFO(bad);
        auto file = open_file(directory, bad);
        REQUIRE_FALSE(file);
        CHECK(file.error().kind() == ErrorKind::not_found);
    }
    CHECK_FALSE(open_file(directory, std::string(256, 'x')));
    CHECK_FALSE(open_file(directory, std::string_view("pxeboot\0x", 9)));
}

TEST_CASE("tftp: a file is read at any offset, to its end and no further") {
    Folder folder;
    auto content = bytes(1000);
    folder.file("f", content);
    auto file = open_file(folder.open(), "f").value();
    std::array<std::uint8_t, 512> into;
    CHECK(read_at(file.fd, 0, into).value() == 512);
    CHECK(read_at(file.fd, 512, into).value() == 488);
    CHECK(as_text(into).substr(0, 488) == content.substr(512));
    CHECK(read_at(file.fd, 1000, into).value() == 0);
    CHECK(read_at(file.fd, 5000, into).value() == 0);
}
