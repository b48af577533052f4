// Random reads of 4 KiB through disk::IoQueue, as virtio-blk hands them over: how many a second.
//
//   disk_io ring|threads FORMAT IMAGE DEPTH SECONDS
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <random>

#include "disk/io_queue.h"

using namespace vmhost;

namespace {

struct Reader {
    Loop loop;
    std::unique_ptr<disk::Image> image;
    std::unique_ptr<disk::IoQueue> queue;
    std::mt19937_64 random{1};
    std::uint64_t done = 0, failed = 0;
    bool stopping = false;
    unsigned in_flight = 0;
    std::vector<std::vector<std::uint8_t>> buffers;
    std::vector<iovec> vectors;

    void read(std::size_t slot) {
        ++in_flight;
        auto offset = random() % (image->size_bytes() / 4096) * 4096;
        queue->submit({.kind = disk::IoQueue::Request::Kind::read,
                       .offset_bytes = offset,
                       .data = {&vectors[slot], 1}},
                      [this, slot](Result<void> result) {
                          --in_flight;
                          ++done;
                          failed += !result;
                          if (!stopping) {
                              read(slot);
                              queue->commit();
                          }
                      });
    }
};

} // namespace

int main(int argc, char** argv) {
    if (argc != 6)
        return 2;
    Reader reader;
    auto name = disk::decide_format(std::string(argv[2]) + ":" + argv[3]);
    auto layers = disk::open_chain(name->path, name->format, true, true);
    if (!layers) {
        std::fprintf(stderr, "%s\n", layers.error().message().c_str());
        return 1;
    }
    reader.image = *disk::Image::open(std::move(*layers), true);
    if (std::string_view(argv[1]) == "ring") {
        auto ring = disk::create_ring_queue(reader.loop, *reader.image);
        if (!ring) {
            std::fprintf(stderr, "%s\n", ring.error().message().c_str());
            return 1;
        }
        reader.queue = std::move(*ring);
    } else {
        reader.queue = disk::create_pool_queue(reader.loop, *reader.image);
    }
    auto depth = std::strtoul(argv[4], nullptr, 10);
    reader.buffers.assign(depth, std::vector<std::uint8_t>(4096));
    for (auto& buffer : reader.buffers)
        reader.vectors.push_back({buffer.data(), buffer.size()});
    auto start = std::chrono::steady_clock::now();
    auto end = start + std::chrono::duration<double>(std::strtod(argv[5], nullptr));
    for (std::size_t slot = 0; slot < depth; ++slot)
        reader.read(slot);
    reader.queue->commit();
    while (reader.in_flight > 0) {
        reader.loop.run_once(true);
        reader.stopping = std::chrono::steady_clock::now() >= end;
    }
    std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
    std::printf("%.0f\n", static_cast<double>(reader.done) / took.count());
    return reader.failed > 0 ? 1 : 0;
}
