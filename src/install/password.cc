#include "install/password.h"

#include <algorithm>
#include <array>
#include <crypt.h>
#include <memory>

namespace vmhost::install {

namespace {

constexpr std::size_t min_hash_bytes = 34; // of the oldest that is still met, md5crypt
constexpr const char* method = "$6$";      // sha512crypt

// "$2b$10$…", "$6$…", "$y$…": a method, and no character that crypt(5) has no use for.
bool is_hash(std::string_view text) {
    if (text == masked_password)
        return true;
    if (text.size() < min_hash_bytes || text[0] != '$' || text.find('$', 1) > 9)
        return false;
    return std::ranges::all_of(text, [](char c) {
        return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') ||
               std::string_view("./$=,").find(c) != std::string_view::npos;
    });
}

} // namespace

Result<std::string> hash_of_password(std::string_view password) {
    if (password.empty() || password == no_password)
        return std::string();
    if (is_hash(password))
        return std::string(password);
    std::array<std::uint8_t, 16> random{};
    fill_random(random);
    std::array<char, CRYPT_GENSALT_OUTPUT_SIZE> salt{};
    if (::crypt_gensalt_rn(method, 0, reinterpret_cast<const char*>(random.data()),
                           static_cast<int>(random.size()), salt.data(),
                           static_cast<int>(salt.size())) == nullptr)
        return fail_errno(errno, "make a salt");
    auto work = std::make_unique<crypt_data>();
    const char* hash = ::crypt_r(std::string(password).c_str(), salt.data(), work.get());
    if (hash == nullptr || hash[0] == '*')
        return fail_errno(errno, "hash a password");
    return std::string(hash);
}

} // namespace vmhost::install
