// A row of datagrams from two clients, with the log at its highest level: each begins with a byte
// that says who sends it, how much time has passed, and how long it is. Whatever comes back is a
// message of TFTP, no longer than what was agreed on.
#include <cstdlib>
#include <fcntl.h>
#include <unistd.h>

#include "tftp/tftp.h"

using namespace vmhost;
using namespace vmhost::tftp;

namespace {

void must(bool good) {
    if (!good)
        std::abort();
}

// Holds "f" with 3000 bytes, and "out", which leads out of it.
const std::string& folder() {
    static const std::string path = [] {
        std::string made = "/tmp/vmhost-tftp-fuzz-XXXXXX";
        must(::mkdtemp(made.data()) != nullptr);
        Fd file(::open((made + "/f").c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
        std::vector<std::uint8_t> content(3000, 'x');
        must(::write(file.get(), content.data(), content.size()) == 3000);
        must(::symlink("/etc/passwd", (made + "/out").c_str()) == 0);
        return made;
    }();
    return path;
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    static const bool loud = log::set_levels("debug").has_value();
    must(loud);
    Server server(
        [](const Client&, Bytes message) {
            must(message.size() >= 4 && message.size() <= 4 + limits::max_tftp_block_bytes);
            auto opcode = load_be<std::uint16_t>(message);
            must(opcode == 3 || opcode == 5 || opcode == 6);
        },
        [](const Event& event) { log_event(event); });
    server.set_directory(Fd(::open(folder().c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC)));
    std::uint64_t now_ms = 0;
    ByteReader reader(Bytes(data, size));
    while (reader.remaining() > 0) {
        auto head = reader.be<std::uint8_t>();
        Client client{0, {0x0a000001u + (head & 1)}, static_cast<std::uint16_t>(head & 2)};
        now_ms += head & 4 ? 700 : 0;
        std::size_t length = head >> 3;
        server.handle(client, reader.bytes(std::min(length, reader.remaining())), now_ms);
        server.tick(now_ms);
        must(server.transfers() <= limits::max_tftp_transfers);
    }
    return 0;
}
