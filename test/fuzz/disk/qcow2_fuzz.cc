// A sound qcow2 image is written to, then damaged where its tables lie, then used and checked on.
//
// The input says the shape, the operations and the damage. An image that was not damaged
// must read as a flat disk does and be sound at the end; a damaged one may refuse whatever it
// likes, but neither crash nor write where its file has no business (it is held to 16 MiB).
#include "../../unit/disk/memory_storage.h"

#include "disk/qcow2/check.h"
#include "disk/qcow2/image.h"

using namespace vmhost;
namespace qcow2 = disk::qcow2;

namespace {

constexpr std::uint64_t max_file_bytes = 16 * MiB;

// A disk that is full at some point.
class SmallStorage final : public disk::Storage {
public:
    explicit SmallStorage(const std::shared_ptr<test::Disk>& on) : inner_(on) {}
    const std::string& name() const override { return inner_.name(); }
    Result<std::uint64_t> size() const override { return inner_.size(); }
    Result<std::uint64_t> readv(std::span<const iovec> into, std::uint64_t offset) override {
        return inner_.readv(into, offset);
    }
    Result<void> writev(std::span<const iovec> from, std::uint64_t offset) override {
        if (!range_fits(offset, disk::total_bytes(from), max_file_bytes))
            return fail_errno(ENOSPC, "write at {}", offset);
        return inner_.writev(from, offset);
    }
    Result<void> punch_hole(std::uint64_t offset, std::uint64_t length) override {
        return inner_.punch_hole(offset, length);
    }
    Result<void> write_zeroes(std::uint64_t offset, std::uint64_t length) override {
        return inner_.write_zeroes(offset, length);
    }
    Result<void> sync() override { return inner_.sync(); }

private:
    test::MemoryStorage inner_;
};

struct Run {
    explicit Run(Bytes data) : input(data) {}

    std::unique_ptr<disk::Image> open(const std::shared_ptr<test::Disk>& on, bool with_base) {
        std::unique_ptr<disk::Image> below;
        if (with_base) {
            auto opened = qcow2::open(std::make_unique<SmallStorage>(base), nullptr, true);
            if (!opened)
                return nullptr;
            below = std::move(*opened);
        }
        auto opened = qcow2::open(std::make_unique<SmallStorage>(on), std::move(below),
                                  input.le<std::uint8_t>() % 8 == 7);
        return opened ? std::move(*opened) : nullptr;
    }

    void operate(disk::Image& image, unsigned count) {
        auto size = std::min<std::uint64_t>(image.size_bytes(), shadow.size());
        for (unsigned i = 0; i < count && input.remaining() > 0; ++i) {
            auto what = input.le<std::uint8_t>();
            auto offset = input.le<std::uint32_t>() % size;
            auto length =
                1 + input.le<std::uint32_t>() % std::min<std::uint64_t>(size - offset, 70'000);
            auto* at = shadow.data() + offset;
            switch (what % 6) {
            case 0: {
                std::vector<std::uint8_t> back(length);
                iovec vector{back.data(), back.size()};
                if (image.readv({&vector, 1}, offset) && !damaged &&
                    std::memcmp(back.data(), at, length) != 0)
                    __builtin_trap();
                break;
            }
            case 1:
                if (image.write_zeroes(offset, length, what & 0x80))
                    std::memset(at, 0, length);
                break;
            case 2: {
                if (!image.discard(offset, length))
                    break;
                iovec vector{at, length}; // as before or zero: the other tests look closer
                if (!image.readv({&vector, 1}, offset) && !damaged)
                    __builtin_trap();
                break;
            }
            case 3:
                if (!image.flush() && !damaged)
                    __builtin_trap();
                break;
            default: {
                std::vector<std::uint8_t> data(length, what);
                iovec vector{data.data(), data.size()};
                if (image.writev({&vector, 1}, offset))
                    std::memset(at, what, length);
                else if (!damaged && !image.read_only())
                    __builtin_trap();
            }
            }
            (void)image.extent_at(offset);
        }
    }

    // Bytes of the tables, which lie in the first clusters, or anywhere.
    void damage(test::Disk& on, unsigned cluster_bits) {
        auto count = input.le<std::uint8_t>() % 12;
        for (int i = 0; i < count && input.remaining() > 0; ++i) {
            auto where = input.le<std::uint8_t>();
            std::uint64_t offset = input.le<std::uint16_t>();
            if (where < 64)
                offset %= 112; // the header
            else
                offset = (static_cast<std::uint64_t>(where % 8) << cluster_bits) +
                         offset % (1ULL << cluster_bits);
            if (where & 0x20) { // an entry that names a cluster of the file
                std::uint8_t raw[8];
                store_be<std::uint64_t>(
                    raw, (static_cast<std::uint64_t>(where & 0xc0) << 56) |
                             static_cast<std::uint64_t>(input.le<std::uint8_t>() % 16)
                                 << cluster_bits);
                put(on, offset / 8 * 8, raw);
            } else {
                auto byte = input.le<std::uint8_t>();
                put(on, offset, {&byte, 1});
            }
            damaged = true;
        }
    }
    static void put(test::Disk& on, std::uint64_t offset, Bytes bytes) {
        if (range_fits(offset, bytes.size(), on.bytes.size()))
            std::ranges::copy(bytes, on.bytes.begin() + static_cast<long>(offset));
    }

    void all() {
        constexpr unsigned bits[] = {9, 10, 12, 16};
        auto cluster_bits = bits[input.le<std::uint8_t>() % 4];
        auto flags = input.le<std::uint8_t>();
        bool with_base = flags & 1;
        shadow.resize(512 + input.le<std::uint32_t>() % 400'000);
        SmallStorage file(top), base_file(base);
        qcow2::NewImage plan{.size_bytes = shadow.size(),
                             .backing_file = with_base ? "base" : "",
                             .cluster_bits = cluster_bits,
                             .version = flags & 2 ? 2U : 3U};
        if (!qcow2::format(file, plan) ||
            !qcow2::format(base_file, {.size_bytes = 100'000, .cluster_bits = 9}))
            __builtin_trap();
        if (auto image = open(top, with_base))
            operate(*image, 12);
        else
            __builtin_trap();
        damage(*top, cluster_bits);
        auto before = qcow2::check(file, false);
        if (!damaged && (!before || before->corruptions != 0 || before->leaks != 0))
            __builtin_trap();
        if (auto image = open(top, with_base))
            operate(*image, 24);
        auto after = qcow2::check(file, true);
        if (!damaged && (!after || after->corruptions != 0 || after->leaks != 0))
            __builtin_trap();
    }

    ByteReader input;
    std::vector<std::uint8_t> shadow;
    std::shared_ptr<test::Disk> base = std::make_shared<test::Disk>();
    std::shared_ptr<test::Disk> top = std::make_shared<test::Disk>();
    bool damaged = false;
};

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    log::set_level("", log::Level::error);
    Run({data, size}).all();
    return 0;
}
