// Site sets: their files, and the archive they come in.

#include <catch2/catch.hpp>

#include <zlib.h>

#include "install/install.h"

using namespace vmhost;
using namespace vmhost::install;

namespace {

Result<std::string> no_files(const std::string& path) {
    return path == "/root/install.site" ? Result<std::string>("#!/bin/ksh\n")
                                        : fail(ErrorKind::not_found, "{}", path);
}

std::string expanded(const std::string& packed) {
    std::string out(1 << 20, '\0');
    z_stream stream{};
    REQUIRE(::inflateInit2(&stream, 15 + 16) == Z_OK);
    stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(packed.data()));
    stream.avail_in = static_cast<uInt>(packed.size());
    stream.next_out = reinterpret_cast<Bytef*>(out.data());
    stream.avail_out = static_cast<uInt>(out.size());
    CHECK(::inflate(&stream, Z_FINISH) == Z_STREAM_END);
    out.resize(stream.total_out);
    ::inflateEnd(&stream);
    return out;
}

config::Site sample() {
    config::Site site;
    site.installurl = "https://cdn.openbsd.org/pub/OpenBSD";
    site.sysctl = {{"kern.timecounter.hardware", "tsc"}, {"kern.x", "1"}};
    site.rc_conf_local = {{"ntpd_flags", "-s"}};
    site.install_site = "/root/install.site";
    site.files = {{{}, "etc/doas.conf", "", "permit :wheel\n", 0, 7, 0600}};
    return site;
}

} // namespace

TEST_CASE("files of a site set") {
    auto files = site_files(sample(), nullptr, no_files);
    REQUIRE(files);
    CHECK(files->size() == 5);
    CHECK(files->at("etc/installurl").content == "https://cdn.openbsd.org/pub/OpenBSD\n");
    CHECK(files->at("etc/sysctl.conf").content == "kern.timecounter.hardware=tsc\nkern.x=1\n");
    CHECK(files->at("etc/rc.conf.local").content == "ntpd_flags=-s\n");
    CHECK(files->at("install.site") == ArchiveFile{"#!/bin/ksh\n", 0, 0, 0755});
    CHECK(files->at("etc/doas.conf") == ArchiveFile{"permit :wheel\n", 0, 7, 0600});
    auto site = sample();
    site.install_site = "/bin/echo hello\n";
    CHECK(site_files(site, nullptr, no_files)->at("install.site").content == "/bin/echo hello\n");
    site.install_site = "/none";
    CHECK(site_files(site, nullptr, no_files).error().kind() == ErrorKind::not_found);
}

TEST_CASE("settings of a VM are added to those of all") {
    auto general = sample();
    config::Site own;
    own.sysctl = {{"kern.x", "2"}, {"kern.y", "3"}};
    auto files = site_files(own, &general, no_files);
    REQUIRE(files);
    CHECK(files->size() == 1); // the others it has from the set of all
    CHECK(files->at("etc/sysctl.conf").content ==
          "kern.timecounter.hardware=tsc\nkern.x=2\nkern.y=3\n");
}

TEST_CASE("an archive is ustar, by name, and the same each time") {
    const std::string deep = std::string(90, 'a') + "/" + std::string(90, 'b');
    Archive files{{"b", {"bb", 1, 2, 0755}}, {"a/x", {"", 0, 0, 0644}}, {deep, {"d", 0, 0, 0600}}};
    auto tar = tar_of(files);
    REQUIRE(tar);
    CHECK(tar->size() == (1 + 2 + 2 + 2) * 512);
    auto header = [&](std::size_t block) { return tar->substr(block * 512, 512); };
    CHECK(header(0).substr(0, 4) == std::string("a/x\0", 4));
    CHECK(header(1).substr(0, 91) == std::string(90, 'b') + '\0'); // names after "a/x"
    CHECK(header(1).substr(345, 91) == std::string(90, 'a') + '\0');
    CHECK(header(3).substr(0, 2) == std::string("b\0", 2));
    CHECK(header(3).substr(100, 24) == std::string("0000755\0"
                                                   "0000001\0"
                                                   "0000002\0",
                                                   24));
    CHECK(header(3).substr(124, 24) == std::string("00000000002\0"
                                                   "00000000000\0",
                                                   24));
    CHECK(header(3).substr(156, 1) == "0");
    CHECK(header(3).substr(257, 8) == std::string("ustar\0"
                                                  "00",
                                                  8));
    CHECK(header(4).substr(0, 3) == std::string("bb\0", 3));
    for (std::size_t block : {0, 1, 3}) {
        auto text = header(block);
        const auto sum = std::stoul(text.substr(148, 6), nullptr, 8);
        text.replace(148, 8, 8, ' ');
        unsigned long counted = 0;
        for (char c : text)
            counted += static_cast<unsigned char>(c);
        CHECK(sum == counted);
    }
    auto packed = gzip_of(*tar);
    REQUIRE(packed);
    CHECK(expanded(*packed) == *tar);
    CHECK(packed->substr(0, 8) == std::string("\x1f\x8b\x08\0\0\0\0\0", 8)); // no name, no time
    CHECK(*gzip_of(*tar) == *packed);
}

TEST_CASE("an archive stays beneath its directory") {
    for (const std::string& bad : std::vector<std::string>{
             "", "/etc/x", "../x", "a/../x", "a/./x", "a//x", "a/", "..", std::string("a\0b", 3),
             std::string(101, 'a'), std::string(156, 'a') + "/b"}) {
        INFO(bad);
        CHECK_FALSE(tar_of({{bad, {"x", 0, 0, 0644}}}));
    }
}

TEST_CASE("answers choose the site sets that there are") {
    config::Model model;
    config::Vm vm;
    vm.name = "vm13";
    vm.install.emplace();
    vm.install->hostname = "puffy.example.org";
    CHECK(render_answers(model, vm, config::InstallMode::install)->find("site") ==
          std::string::npos);
    model.install.site = sample();
    auto text = render_answers(model, vm, config::InstallMode::install).value();
    CHECK(text.find("Set name(s) = -x* -game* +site*\n") != std::string::npos);
    CHECK(text.find("Checksum test for site78.tgz failed. Continue anyway = yes\n") !=
          std::string::npos);
    CHECK(text.find("Unverified sets: site78.tgz. Continue without verification = yes\n") !=
          std::string::npos);
    vm.install->sets = "all +site78*";
    CHECK(render_answers(model, vm, config::InstallMode::install)
              ->find("Set name(s) = all +site78*\n") != std::string::npos);
    model.install.site.reset();
    vm.install->sets = "-x*";
    vm.install->site = sample();
    text = render_answers(model, vm, config::InstallMode::install).value();
    CHECK(text.find("Set name(s) = -x* +site*\n") != std::string::npos);
    CHECK(text.find("Checksum test for site78-puffy.tgz failed") != std::string::npos);
}
