// Files below an image, vmctl create, and images that somebody else made or damaged.
#include <catch2/catch.hpp>

#include <cstdlib>
#include <fcntl.h>
#include <fstream>
#include <zlib.h>

#include "base/limits.h"
#include "disk/disk.h"
#include "disk/qcow2/check.h"
#include "disk/qcow2/image.h"
#include "memory_storage.h"
#include "temporary.h"

using namespace vmhost;
using disk::Format;
using test::MemoryStorage;
using test::TemporaryDirectory;

namespace {

std::unique_ptr<disk::Image> open_path(const std::string& path, Format format, bool read_only) {
    auto layers = disk::open_chain(path, format, read_only, true);
    if (!layers)
        FAIL(layers.error().message());
    auto image = disk::Image::open(std::move(*layers), read_only);
    if (!image)
        FAIL(image.error().message());
    return std::move(*image);
}

void put(disk::Image& image, std::uint64_t offset, std::uint8_t value, std::size_t count) {
    std::vector<std::uint8_t> data(count, value);
    iovec vector{data.data(), data.size()};
    REQUIRE(image.writev({&vector, 1}, offset));
}

int at(disk::Image& image, std::uint64_t offset) {
    std::uint8_t byte = 0xee;
    iovec vector{&byte, 1};
    REQUIRE(image.readv({&vector, 1}, offset));
    return byte;
}

void poke(const std::string& path, std::uint64_t offset, std::vector<std::uint8_t> bytes) {
    Fd file(::open(path.c_str(), O_WRONLY | O_CLOEXEC));
    REQUIRE(::pwrite(file.get(), bytes.data(), bytes.size(), static_cast<off_t>(offset)) ==
            static_cast<ssize_t>(bytes.size()));
}

std::string refusal(const std::string& path, bool read_only = false) {
    auto layers = disk::open_chain(path, Format::qcow2, read_only, true);
    if (!layers)
        return layers.error().text();
    auto image = disk::Image::open(std::move(*layers), read_only);
    return image ? "" : image.error().text();
}

bool have_qemu() {
    if (std::system("qemu-img --version >/dev/null 2>&1") == 0)
        return true;
    WARN("skipped: qemu-img is not installed");
    return false;
}

} // namespace

TEST_CASE("the format is decided in vmctl's order") {
    TemporaryDirectory directory;
    auto image = directory / "disk.raw";
    REQUIRE(disk::create_image(image, Format::qcow2, MiB));
    CHECK(disk::decide_format("raw:" + image)->format == Format::raw);
    CHECK(disk::decide_format("raw:" + image)->path == image);
    CHECK(disk::decide_format(image)->format == Format::qcow2); // its first bytes
    CHECK(disk::decide_format("new.QCOW2")->format == Format::qcow2);
    CHECK(disk::decide_format("new.raw")->format == Format::raw);
    CHECK(disk::decide_format("new")->format == Format::raw);
    CHECK(disk::decide_format("qcow2:new")->format == Format::qcow2);
    CHECK_FALSE(disk::decide_format("qcow2:"));
    CHECK_FALSE(disk::decide_format(""));
    // A guest writes its disk: what it wrote decides nothing.
    auto begins_like_qcow2 = *disk::open_image(image, true);
    CHECK_FALSE(disk::format_of_guest_disk(begins_like_qcow2, image));
    CHECK_FALSE(disk::format_of_guest_disk(begins_like_qcow2, "a.img"));
    CHECK(*disk::format_of_guest_disk(begins_like_qcow2, "a.qcow2") == Format::qcow2);
    REQUIRE(disk::create_raw(directory / "a.img", MiB));
    auto zeros = *disk::open_image(directory / "a.img", true);
    CHECK(*disk::format_of_guest_disk(zeros, "a.img") == Format::raw);
    CHECK(*disk::format_of_guest_disk(zeros, "a.Qcow2") == Format::qcow2);
}

TEST_CASE("GHSA-jmr4: no file of the host is read through a backing name unasked") {
    TemporaryDirectory directory;
    REQUIRE(disk::create_image(directory / "secret.qcow2", Format::qcow2, MiB));
    REQUIRE(disk::create_overlay(directory / "a.qcow2", {Format::qcow2, "secret.qcow2"}, {}));
    auto refused = disk::open_chain(directory / "a.qcow2", Format::qcow2, false, false);
    REQUIRE_FALSE(refused);
    CHECK(refused.error().kind() == ErrorKind::denied);
    CHECK(disk::open_chain(directory / "a.qcow2", Format::qcow2, false, true));
    // Nor can a process be given one without the other.
    auto layers = disk::open_chain(directory / "a.qcow2", Format::qcow2, true, true);
    REQUIRE(layers->size() == 2);
    layers->pop_back();
    CHECK_FALSE(disk::Image::open(std::move(*layers), true));
}

TEST_CASE("an image has the files below it that the configuration names, and no others") {
    TemporaryDirectory directory;
    auto in = [&](const std::string& name) { return directory / name; };
    REQUIRE(disk::create_image(in("base.qcow2"), Format::qcow2, MiB));
    REQUIRE(disk::create_raw(in("base.raw"), MiB));
    REQUIRE(disk::create_overlay(in("mid.qcow2"), {Format::raw, "base.raw"}, {}));
    REQUIRE(disk::create_overlay(in("top.qcow2"), {Format::qcow2, in("mid.qcow2")}, {}));
    put(*open_path(in("base.raw"), Format::raw, false), 5000, 7, 10);

    struct Named {
        std::string path;
        std::optional<Format> format = std::nullopt;
    };
    auto open = [&](std::vector<Named> files) {
        std::vector<disk::ConfiguredLayer> layers;
        for (const auto& [path, format] : files)
            layers.push_back({*disk::open_image(path, !layers.empty()), format, path});
        return disk::Image::open_configured(std::move(layers), false);
    };
    auto refusal_of = [&](std::vector<Named> files, ErrorKind kind) {
        auto opened = open(std::move(files));
        REQUIRE_FALSE(opened);
        CHECK(opened.error().kind() == kind);
        return opened.error().text();
    };
    using Catch::Contains;
    const Named top{in("top.qcow2"), Format::qcow2};
    std::filesystem::create_directory(in("x"));
    auto image = open({top, {in("mid.qcow2")}, {in("x/../base.raw")}});
    REQUIRE(image);
    CHECK(at(**image, 5005) == 7);
    CHECK(open({top, {in("mid.qcow2"), Format::qcow2}, {in("base.raw"), Format::raw}}));

    auto text = refusal_of({top}, ErrorKind::denied);
    CHECK_THAT(text, Contains("top.qcow2: it names the backing file " + in("mid.qcow2")));
    text = refusal_of({top, {in("mid.qcow2")}}, ErrorKind::denied);
    CHECK_THAT(text, Contains("mid.qcow2: it names the backing file base.raw, which the"));
    text = refusal_of({top, {in("base.qcow2")}}, ErrorKind::denied);
    CHECK_THAT(text,
               Contains(in("mid.qcow2") + ", but the configuration names " + in("base.qcow2")));
    text = refusal_of({top, {in("mid.qcow2"), Format::raw}}, ErrorKind::invalid);
    CHECK_THAT(text, Contains("is of format \"qcow2\", not \"raw\""));
    text =
        refusal_of({top, {in("mid.qcow2")}, {in("base.raw"), Format::qcow2}}, ErrorKind::invalid);
    text = refusal_of({{in("base.qcow2"), Format::qcow2}, {in("base.raw")}}, ErrorKind::invalid);
    CHECK_THAT(text, Contains("names no backing file, but the configuration names"));
    text = refusal_of({{in("base.raw"), Format::raw}, {in("base.qcow2")}}, ErrorKind::invalid);
    CHECK_THAT(text, Contains("it is raw and has no backing file"));

    // What a guest wrote into a raw disk stays data, whatever it looks like.
    poke(in("base.raw"), 0, {'Q', 'F', 'I', 0xfb, 0, 0, 0, 3});
    image = open({{in("base.raw"), Format::raw}});
    REQUIRE(image);
    CHECK((*image)->size_bytes() == MiB);
    CHECK(at(**image, 0) == 'Q');
}

TEST_CASE("a chain shows the first layer that has the cluster; bases stay as they are") {
    TemporaryDirectory directory;
    REQUIRE(disk::create_image(directory / "base.raw", Format::raw, MiB + 4096));
    put(*open_path(directory / "base.raw", Format::raw, false), 0, 1, 300'000);
    REQUIRE(disk::create_overlay(directory / "mid.qcow2", {Format::raw, "base.raw"}, {}));
    {
        auto mid = open_path(directory / "mid.qcow2", Format::qcow2, false);
        put(*mid, 70'000, 2, 10);
        put(*mid, MiB + 4095, 2, 1);
    }
    auto size = disk::create_overlay(directory / "top.qcow2", {Format::qcow2, "mid.qcow2"}, {});
    REQUIRE(size);
    CHECK(*size == MiB + 4096);
    CHECK_FALSE(disk::create_overlay(directory / "x.qcow2", {Format::qcow2, "mid.qcow2"}, 2 * MiB));
    CHECK_FALSE(disk::create_overlay(directory / "x.qcow2", {Format::qcow2, "none"}, {}));
    CHECK_FALSE(std::filesystem::exists(directory / "x.qcow2"));
    auto top = open_path(directory / "top.qcow2", Format::qcow2, false);
    put(*top, 200'000, 3, 10);
    CHECK(at(*top, 0) == 1);
    CHECK(at(*top, 70'005) == 2);
    CHECK(at(*top, 200'005) == 3);
    CHECK(at(*top, 200'010) == 1);
    CHECK(at(*top, 300'001) == 0);
    CHECK(at(*top, MiB + 4095) == 2);
    // Readers share the base, nobody writes below us.
    CHECK(open_path(directory / "mid.qcow2", Format::qcow2, true));
    auto writer = disk::open_chain(directory / "mid.qcow2", Format::qcow2, false, true);
    REQUIRE_FALSE(writer);
    CHECK(writer.error().kind() == ErrorKind::busy);
    top.reset();

    // Flattened: alone, larger, rounded up to MiB.
    for (auto format : {Format::raw, Format::qcow2}) {
        auto path = directory / std::string("flat.") + std::string(disk::name_of(format));
        std::uint64_t last = 0;
        auto done = disk::convert({Format::qcow2, directory / "top.qcow2"}, path, format, {},
                                  [&](std::uint64_t now, std::uint64_t) { last = now; });
        REQUIRE(done);
        CHECK(*done == 2 * MiB);
        CHECK(last == MiB + 4096);
        auto flat = open_path(path, format, true);
        CHECK(flat->size_bytes() == 2 * MiB);
        CHECK(at(*flat, 70'005) == 2);
        CHECK(at(*flat, 200'005) == 3);
        CHECK(at(*flat, 200'010) == 1);
        CHECK(at(*flat, MiB + 4096) == 0);
        CHECK(disk::inspect({format, path})->backing_file.empty());
        CHECK(disk::inspect({format, path})->allocated_bytes < 900 * KiB);
        CHECK_FALSE(disk::convert({format, path}, path + "2", format, MiB, {}));
        CHECK_FALSE(std::filesystem::exists(path + "2"));
        auto again = disk::convert({Format::raw, directory / "base.raw"}, path, format, {}, {});
        REQUIRE_FALSE(again);
        CHECK(again.error().kind() == ErrorKind::exists);
    }
}

TEST_CASE("a chain that bites its tail or is too long is refused") {
    TemporaryDirectory directory;
    REQUIRE(disk::create_image(directory / "0", Format::qcow2, MiB));
    for (std::size_t i = 1; i < limits::max_image_layers; ++i)
        REQUIRE(disk::create_overlay(directory / std::to_string(i),
                                     {Format::qcow2, std::to_string(i - 1)}, {}));
    CHECK(refusal(directory / std::to_string(limits::max_image_layers - 1)).empty());
    auto more = std::to_string(limits::max_image_layers);
    REQUIRE(disk::create_overlay(
        directory / more, {Format::qcow2, std::to_string(limits::max_image_layers - 1)}, {}));
    CHECK(refusal(directory / more).find("lie on each other") != std::string::npos);
    std::filesystem::rename(directory / "2", directory / "0");
    CHECK(refusal(directory / "1").find("its own backing file") != std::string::npos);
}

TEST_CASE("what the header promises and we do not do is refused by name") {
    TemporaryDirectory directory;
    auto path = directory / "a.qcow2";
    auto with = [&](std::uint64_t offset, std::vector<std::uint8_t> bytes, bool read_only = false) {
        std::filesystem::remove(path);
        REQUIRE(disk::create_image(path, Format::qcow2, 10 * MiB));
        poke(path, offset, std::move(bytes));
        return refusal(path, read_only);
    };
    using Catch::Contains;
    CHECK(with(0, {'Q'}) == "");
    CHECK_THAT(with(3, {0}), Contains("not a qcow2 image"));
    CHECK_THAT(with(7, {4}), Contains("version 4"));
    CHECK_THAT(with(35, {1}), Contains("encrypted"));
    CHECK_THAT(with(79, {1}), Contains("lazy refcounts"));
    CHECK_THAT(with(79, {2}), Contains("marked corrupt"));
    CHECK(with(79, {2}, true) == "");
    CHECK_THAT(with(79, {4}), Contains("external data file"));
    CHECK_THAT(with(79, {8}), Contains("compression type"));
    CHECK_THAT(with(79, {16}), Contains("extended L2"));
    CHECK_THAT(with(79, {32}), Contains("feature number 5"));
    CHECK(with(87, {1}) == ""); // lazy refcounts, but clean: ours are never late
    CHECK_THAT(with(99, {7}), Contains("refcounts of 2^7"));
    CHECK_THAT(with(23, {8}), Contains("clusters of 2^8"));
    CHECK_THAT(with(23, {22}), Contains("clusters of 2^22"));
    CHECK_THAT(with(24, {0xff}), Contains("disk of"));
    CHECK_THAT(with(36, {0xff}), Contains("L1 table has"));
    CHECK_THAT(with(36, {0, 0, 0, 0}), Contains("needs 1"));
    CHECK_THAT(with(45, {0}), Contains("lies in its"));
    CHECK_THAT(with(47, {1}), Contains("cluster's begin"));
    CHECK_THAT(with(40, {1}), Contains("past the end of the file"));
    CHECK_THAT(with(56, {1}), Contains("refcount table has"));
    CHECK_THAT(with(59, {0}), Contains("no refcount table"));
    // L1 entry 0, and refcount block 0, which is at cluster 3.
    CHECK_THAT(with(0x10000, {0, 0, 0, 0, 0, 3, 0, 0}), Contains("lies in another table"));
    CHECK_THAT(with(0x10000, {0, 0, 0, 0, 0, 9, 0, 0}), Contains("past the end of the file"));
    CHECK_THAT(with(0x10000, {0, 0, 0, 0, 0, 3, 2, 0}), Contains("cluster's begin"));
    CHECK_THAT(with(0x20000, {0, 0, 0, 0, 0, 1, 0, 0}), Contains("lies in another table"));
    // A cluster that counts as free but holds the L1 table is not handed out.
    CHECK(with(0x30002, {0, 0}) == "");
    std::vector<std::uint8_t> byte(1);
    iovec vector{byte.data(), 1};
    auto layers = disk::open_chain(path, Format::qcow2, false, true);
    auto image = disk::Image::open(std::move(*layers), false);
    auto written = (*image)->writev({&vector, 1}, 0);
    REQUIRE_FALSE(written);
    CHECK_THAT(written.error().text(), Contains("a table at 65536 counts as free"));
    image->reset();
    auto report = disk::check({Format::qcow2, path}, false);
    REQUIRE(report);
    CHECK(report->corruptions == 1);
}

TEST_CASE("compressed clusters are read, and expanded when they are written") {
    auto disk_bytes = std::make_shared<test::Disk>();
    MemoryStorage file(disk_bytes);
    REQUIRE(disk::qcow2::format(file, {.size_bytes = 4 * 65536}));
    std::vector<std::uint8_t> plain(65536), packed(65536 + 1024);
    for (std::size_t i = 0; i < plain.size(); ++i)
        plain[i] = static_cast<std::uint8_t>(i / 100);
    z_stream stream{};
    REQUIRE(deflateInit2(&stream, 9, Z_DEFLATED, -12, 9, Z_DEFAULT_STRATEGY) == Z_OK);
    stream.next_in = plain.data();
    stream.avail_in = static_cast<uInt>(plain.size());
    stream.next_out = packed.data();
    stream.avail_out = static_cast<uInt>(packed.size());
    REQUIRE(deflate(&stream, Z_FINISH) == Z_STREAM_END);
    packed.resize(stream.total_out);
    deflateEnd(&stream);
    REQUIRE(packed.size() < 4000);
    // L2 table in cluster 4; guest clusters 0 and 1 share host cluster 5, unaligned.
    std::uint64_t first = 0x50000 + 100, second = first + packed.size();
    REQUIRE(file.write(std::vector<std::uint8_t>(65536), 0x40000));
    REQUIRE(file.write(packed, first));
    REQUIRE(file.write(packed, second));
    auto entry = [&](std::uint64_t offset) {
        auto sectors = (offset % 512 + packed.size() - 1) / 512;
        std::vector<std::uint8_t> raw(8);
        store_be(MutableBytes(raw), 1ULL << 62 | sectors << 54 | offset);
        return raw;
    };
    REQUIRE(file.write(entry(first), 0x40000));
    REQUIRE(file.write(entry(second), 0x40008));
    REQUIRE(file.write(std::vector<std::uint8_t>{0x80, 0, 0, 0, 0, 4, 0, 0}, 0x10000));
    REQUIRE(file.write(std::vector<std::uint8_t>{0, 1, 0, 2}, 0x30008));
    auto report = disk::qcow2::check(file, false);
    REQUIRE(report);
    REQUIRE(report->messages.empty());

    auto image = disk::qcow2::open(std::make_unique<MemoryStorage>(disk_bytes), nullptr, false);
    REQUIRE(image);
    std::vector<std::uint8_t> back(65536);
    iovec vector{back.data(), back.size()};
    for (std::uint64_t cluster : {0, 1}) {
        REQUIRE((*image)->readv({&vector, 1}, cluster * 65536));
        CHECK(back == plain);
    }
    put(**image, 1000, 0xaa, 10);
    REQUIRE((*image)->flush());
    std::fill_n(plain.begin() + 1000, 10, std::uint8_t{0xaa});
    REQUIRE((*image)->readv({&vector, 1}, 0));
    CHECK(back == plain);
    REQUIRE((*image)->discard(65536, 65536));
    image->reset();
    report = disk::qcow2::check(file, false);
    REQUIRE(report);
    CHECK(report->messages.empty());
    // Damaged: an error, not noise.
    REQUIRE(file.write(entry(0x30000), 0x40008));
    image = disk::qcow2::open(std::make_unique<MemoryStorage>(disk_bytes), nullptr, true);
    CHECK_FALSE((*image)->readv({&vector, 1}, 65536));
}

TEST_CASE("qemu-img agrees with our images, and we with its") {
    if (!have_qemu())
        return;
    TemporaryDirectory directory;
    auto run = [&](const std::string& command) {
        INFO(command);
        REQUIRE(std::system(("cd " + (directory / "") + " && " + command + " >log 2>&1").c_str()) ==
                0);
    };
    REQUIRE(disk::create_image(directory / "base.qcow2", Format::qcow2, 20 * MiB));
    {
        auto base = open_path(directory / "base.qcow2", Format::qcow2, false);
        for (std::uint64_t i = 0; i < 40; ++i)
            put(*base, i * 500'000, static_cast<std::uint8_t>(i + 1), 30'000);
        REQUIRE(base->discard(3'000'000, 2'000'000));
    }
    REQUIRE(disk::create_overlay(directory / "top.qcow2", {Format::qcow2, "base.qcow2"}, {}));
    {
        auto top = open_path(directory / "top.qcow2", Format::qcow2, false);
        put(*top, 1'000'000, 0x55, 300'000);
        REQUIRE(top->write_zeroes(8'000'000, 3'000'000, true));
        put(*top, 9'000'000, 0x66, 5);
    }
    run("qemu-img check base.qcow2");
    run("qemu-img check top.qcow2");
    REQUIRE(disk::convert({Format::qcow2, directory / "top.qcow2"}, directory / "flat.raw",
                          Format::raw, {}, {}));
    run("qemu-img compare -f qcow2 -F raw top.qcow2 flat.raw");
    // Theirs: compressed, version 2, small clusters, 1-bit refcounts; and a snapshot.
    for (std::string options :
         {"-c -o compat=0.10", "-c", "-o cluster_size=512", "-o refcount_bits=1",
          "-o refcount_bits=64,cluster_size=2M", "-o lazy_refcounts=on"}) {
        run("rm -f their.qcow2 our.raw && qemu-img convert -O qcow2 " + options +
            " flat.raw their.qcow2");
        REQUIRE(disk::convert({Format::qcow2, directory / "their.qcow2"}, directory / "our.raw",
                              Format::raw, {}, {}));
        run("cmp our.raw flat.raw");
        {
            auto theirs = open_path(directory / "their.qcow2", Format::qcow2, false);
            auto flat = open_path(directory / "flat.raw", Format::raw, false);
            for (auto* image : {theirs.get(), flat.get()})
                for (std::uint64_t i = 0; i < 200; ++i)
                    put(*image, i * 99'991, static_cast<std::uint8_t>(i), 777);
        }
        run("qemu-img check their.qcow2");
        run("qemu-img compare -f qcow2 -F raw their.qcow2 flat.raw");
        auto report = disk::check({Format::qcow2, directory / "their.qcow2"}, false);
        REQUIRE(report);
        CHECK(report->messages.empty());
    }
    run("rm their.qcow2; qemu-img convert -O qcow2 flat.raw their.qcow2 && "
        "qemu-img snapshot -c before their.qcow2");
    put(*open_path(directory / "their.qcow2", Format::qcow2, false), 0, 0x77, 3'000'000);
    run("qemu-img check their.qcow2");
    auto report = disk::check({Format::qcow2, directory / "their.qcow2"}, false);
    REQUIRE(report);
    CHECK(report->messages.empty());
    run("qemu-img snapshot -a before their.qcow2 && qemu-img compare -f qcow2 -F raw their.qcow2 "
        "flat.raw");
}
