// Answer files that operators bring: the linter reads anything.
#include "install/install.h"

using namespace vmhost;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    (void)install::lint_answers(as_text(Bytes(data, size)));
    return 0;
}
