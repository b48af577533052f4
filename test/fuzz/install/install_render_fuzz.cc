// Answer files made of values that anybody may have ordered: whatever they are, every line is one
// that was meant, and a value adds none.
#include <cstdlib>

#include "install/install.h"

using namespace vmhost;

namespace {

// The input's next piece, up to a zero byte.
std::string piece(std::string_view& rest) {
    auto end = rest.find('\0');
    auto text = std::string(rest.substr(0, end));
    rest.remove_prefix(end == std::string_view::npos ? rest.size() : end + 1);
    return text;
}

// Lines of an install with everything set and no answers of the operator's, and those of two site
// sets, with room for none besides.
constexpr std::size_t most_own_lines = 25;

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    auto rest = as_text(Bytes(data, size));
    config::Model model;
    config::Vm vm;
    vm.name = "a";
    auto& install = vm.install.emplace();
    for (auto* value : {&install.hostname, &install.user, &install.sshkey, &install.password,
                        &install.root_password, &install.timezone, &install.sets,
                        &model.host.domain, &model.install.mirror, &model.install.release}) {
        auto text = piece(rest);
        if (!text.empty())
            *value = std::move(text);
    }
    while (!rest.empty() && install.answers.size() < 8) {
        auto key = piece(rest);
        install.answers.emplace_back(std::move(key), piece(rest));
    }
    for (auto mode : {config::InstallMode::install, config::InstallMode::upgrade}) {
        auto text = install::render_answers(model, vm, mode);
        if (!text)
            continue;
        std::size_t lines = 0;
        for (char c : *text) {
            lines += c == '\n' ? 1 : 0;
            if ((static_cast<unsigned char>(c) < 0x20 && c != '\n') || c == 0x7f)
                std::abort(); // "\r" ends a line for some
        }
        if (!text->ends_with('\n') || lines > most_own_lines + install.answers.size())
            std::abort();
    }
    return 0;
}
