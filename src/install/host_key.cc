// The private key's text is base64 in lines of 70 letters; behind that are a name, the public key,
// and a list of one key whose length is filled up to the block of a cipher, which is 8 bytes for
// none. Two equal numbers in front of the list show a reader that it deciphered it rightly.
#include "install/host_key.h"

#include <sodium.h>

namespace vmhost::install {

namespace {

constexpr std::string_view key_type = "ssh-ed25519";
constexpr std::string_view magic{"openssh-key-v1", 15}; // with its zero byte
constexpr std::size_t line_letters = 70;
constexpr std::size_t block_bytes = 8;
constexpr std::size_t max_comment_bytes = 256;

// Its length in four bytes, and it.
void put_string(ByteWriter& out, Bytes bytes) {
    out.be(static_cast<std::uint32_t>(bytes.size()));
    out.bytes(bytes);
}

std::string base64(Bytes bytes) {
    std::string text(sodium_base64_encoded_len(bytes.size(), sodium_base64_VARIANT_ORIGINAL), '\0');
    sodium_bin2base64(text.data(), text.size(), bytes.data(), bytes.size(),
                      sodium_base64_VARIANT_ORIGINAL);
    text.pop_back(); // its zero byte
    return text;
}

std::string in_lines(std::string_view letters) {
    std::string out = "-----BEGIN OPENSSH PRIVATE KEY-----\n";
    for (std::size_t at = 0; at < letters.size(); at += line_letters)
        out.append(letters.substr(at, line_letters)) += '\n';
    return out + "-----END OPENSSH PRIVATE KEY-----\n";
}

Result<void> begin() {
    if (sodium_init() < 0)
        return fail(ErrorKind::internal, "host key: libsodium does not begin");
    return {};
}

} // namespace

Result<HostKey> host_key_of(const std::array<std::uint8_t, 32>& seed, std::uint32_t check,
                            std::string_view comment) {
    TRY(begin());
    if (comment.size() > max_comment_bytes || comment.find_first_of("\r\n") != comment.npos)
        return fail(ErrorKind::invalid, "host key: its comment is one line of at most {} bytes",
                    max_comment_bytes);
    std::array<std::uint8_t, crypto_sign_PUBLICKEYBYTES> public_key{};
    std::array<std::uint8_t, crypto_sign_SECRETKEYBYTES> secret_key{};
    crypto_sign_seed_keypair(public_key.data(), secret_key.data(), seed.data());

    ByteWriter blob;
    put_string(blob, as_bytes(key_type));
    put_string(blob, public_key);
    const auto public_blob = blob.take();

    ByteWriter list;
    list.be(check);
    list.be(check);
    put_string(list, as_bytes(key_type));
    put_string(list, public_key);
    put_string(list, secret_key);
    put_string(list, as_bytes(comment));
    auto keys = list.take();
    for (std::uint8_t fill = 1; keys.size() % block_bytes != 0; ++fill)
        keys.push_back(fill);

    ByteWriter file;
    file.bytes(as_bytes(magic));
    put_string(file, as_bytes("none")); // cipher
    put_string(file, as_bytes("none")); // of the passphrase
    put_string(file, {});
    file.be(std::uint32_t{1});
    put_string(file, public_blob);
    put_string(file, keys);
    const auto whole = file.take();

    HostKey key;
    key.public_line = fmt::format("{} {}{}{}", key_type, base64(public_blob),
                                  comment.empty() ? "" : " ", comment);
    key.private_text = in_lines(base64(whole));
    sodium_memzero(secret_key.data(), secret_key.size());
    return key;
}

Result<HostKey> make_host_key(std::string_view comment) {
    TRY(begin());
    std::array<std::uint8_t, 32> seed{};
    randombytes_buf(seed.data(), seed.size());
    auto key = host_key_of(seed, randombytes_random(), comment);
    sodium_memzero(seed.data(), seed.size());
    return key;
}

} // namespace vmhost::install
