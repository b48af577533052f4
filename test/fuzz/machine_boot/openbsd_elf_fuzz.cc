// OpenBSD kernels, plain and gzip'd. The first byte chooses packing: odd = pack the rest, so
// that mutations reach the ELF parser behind the checksum; even = as it is.
#define ZLIB_CONST
#include <zlib.h>

#include "fuzz_guest.h"

using namespace vmhost;
using namespace vmhost::machine::boot;

namespace {

std::vector<std::uint8_t> gzip(Bytes plain) {
    z_stream stream{};
    if (deflateInit2(&stream, 0, Z_DEFLATED, 16 + MAX_WBITS, 8, Z_DEFAULT_STRATEGY) != Z_OK)
        std::abort();
    std::vector<std::uint8_t> out(deflateBound(&stream, plain.size()));
    stream.next_in = plain.data();
    stream.avail_in = static_cast<uInt>(plain.size());
    stream.next_out = out.data();
    stream.avail_out = static_cast<uInt>(out.size());
    deflate(&stream, Z_FINISH);
    out.resize(stream.total_out);
    deflateEnd(&stream);
    return out;
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    if (size == 0)
        return 0;
    Bytes image(data + 1, size - 1);
    std::vector<std::uint8_t> packed;
    if (data[0] & 1)
        image = packed = gzip(image);
    Request request;
    request.image = image;
    request.name = "bsd";
    request.howto = data[0];
    request.boot_mac = Mac::from(image);
    (void)load_into_small_guest(request);
    return 0;
}
