// Another machine on the wire: it has the IPv4 address of its command line, answers ARP and echo
// requests (RFC 826, RFC 792), and does what is typed:
//
//   ping ADDRESS BYTES [ROUTER]   asks for an address, or that of a router to it, and sends an echo
//                                 request with so much behind its header, three times at most:
//                                 "reply BYTES" or "no reply"
#include "virtio.h"

enum { serial_data = 0x3f8, serial_status = 0x3fd, data_ready = 1 };
enum { feature_mac = 1 << 5, feature_mtu = 1 << 3, header_bytes = 12, frame_bytes = 1514 };
enum { buffers = 16, tries = 3, reply_ticks = 2 * ticks_per_second };
enum { ethernet_bytes = 14, ip_bytes = 20, echo_bytes = 8, arp_bytes = 28 };
enum { type_arp = 0x0806, type_ip = 0x0800, protocol_icmp = 1, echo_reply = 0, echo_request = 8 };

static struct virtio device;
static struct queue receive_queue, send_queue;
static struct buffer {
    uint8_t header[header_bytes], frame[frame_bytes];
} incoming[buffers], outgoing;
static struct buffer* of_head[virtio_max_queue];
static uint8_t my_mac[6], my_address[4];
static uint8_t pinged[4];                      // an address
static uint8_t asked_address[4], asked_mac[6]; // of it or of the router to it
static bool asked_known;
static uint32_t replied_bytes;
static bool replied;

static void put16(uint8_t* at, uint32_t value) {
    at[0] = (uint8_t)(value >> 8);
    at[1] = (uint8_t)value;
}
static uint32_t get16(const uint8_t* at) {
    return (uint32_t)at[0] << 8 | at[1];
}
static uint32_t checksum(const uint8_t* bytes, uint32_t count) {
    uint32_t total = 0;
    for (; count > 1; bytes += 2, count -= 2)
        total += get16(bytes);
    if (count > 0)
        total += (uint32_t)*bytes << 8;
    while (total >> 16)
        total = (total & 0xffff) + (total >> 16);
    return ~total & 0xffff;
}

static void offer(struct buffer* buffer) {
    struct segment segment = {buffer, sizeof *buffer};
    const int head = queue_add(&receive_queue, &segment, 0, 1);
    if (head < 0)
        fail("the receive queue is full");
    of_head[head] = buffer;
}

// The payload stands in outgoing.frame already.
static void send(const uint8_t to[6], uint32_t type, uint32_t payload) {
    uint8_t* frame = outgoing.frame;
    memcpy(frame, to, 6);
    memcpy(frame + 6, my_mac, 6);
    put16(frame + 12, type);
    uint32_t length = ethernet_bytes + payload;
    for (; length < 60; length++)
        frame[length] = 0;
    struct segment segments[2] = {{outgoing.header, header_bytes}, {frame, length}};
    uint16_t head;
    uint32_t written;
    if (queue_add(&send_queue, segments, 2, 0) < 0)
        fail("the send queue is full");
    queue_kick(&send_queue);
    queue_wait(&send_queue, &head, &written);
}

static void send_arp(uint32_t operation, const uint8_t mac[6], const uint8_t address[4]) {
    static const uint8_t start[6] = {0, 1, 8, 0, 6, 4};
    static const uint8_t everybody[6] = {255, 255, 255, 255, 255, 255};
    uint8_t* arp = outgoing.frame + ethernet_bytes;
    memcpy(arp, start, 6);
    put16(arp + 6, operation);
    memcpy(arp + 8, my_mac, 6);
    memcpy(arp + 14, my_address, 4);
    memcpy(arp + 18, mac, 6);
    memcpy(arp + 24, address, 4);
    send(operation == 1 ? everybody : mac, type_arp, arp_bytes);
}

static void take_arp(const uint8_t* arp) {
    if (memcmp(arp + 24, my_address, 4) != 0)
        return;
    uint8_t mac[6], address[4];
    memcpy(mac, arp + 8, 6);
    memcpy(address, arp + 14, 4);
    if (get16(arp + 6) == 2 && memcmp(address, asked_address, 4) == 0) {
        memcpy(asked_mac, mac, 6);
        asked_known = true;
    } else if (get16(arp + 6) == 1) {
        send_arp(2, mac, address);
    }
}

// Of `length` bytes at most; the frame may be padded.
static void take_ip(const uint8_t* frame, uint32_t length) {
    const uint8_t* ip = frame + ethernet_bytes;
    const uint32_t total = get16(ip + 2);
    if (ip[0] != 0x45 || ip[9] != protocol_icmp || total > length || total < ip_bytes + echo_bytes ||
        memcmp(ip + 16, my_address, 4) != 0 || checksum(ip + ip_bytes, total - ip_bytes) != 0)
        return;
    if (ip[ip_bytes] == echo_reply) {
        replied = true;
        replied_bytes = total - ip_bytes - echo_bytes;
    } else if (ip[ip_bytes] == echo_request) {
        uint8_t* answer = outgoing.frame + ethernet_bytes;
        memcpy(answer, ip, total);
        memcpy(answer + 12, ip + 16, 4); // the header's sum does not change
        memcpy(answer + 16, ip + 12, 4);
        answer[ip_bytes] = echo_reply;
        put16(answer + ip_bytes + 2, 0);
        put16(answer + ip_bytes + 2, checksum(answer + ip_bytes, total - ip_bytes));
        send(frame + 6, type_ip, total);
    }
}

// What has come; buffers go back.
static void take_frames(void) {
    uint16_t head;
    uint32_t length;
    while (queue_take(&receive_queue, &head, &length)) {
        struct buffer* buffer = of_head[head];
        length -= header_bytes;
        const uint32_t type = get16(buffer->frame + 12);
        if (length >= ethernet_bytes + arp_bytes && type == type_arp)
            take_arp(buffer->frame + ethernet_bytes);
        else if (length >= ethernet_bytes + ip_bytes + echo_bytes && type == type_ip)
            take_ip(buffer->frame, length - ethernet_bytes);
        offer(buffer);
        queue_kick(&receive_queue);
    }
}

// Until *done or for two seconds.
static bool listen_for(const bool* done) {
    const uint32_t end = ticks + reply_ticks;
    while (!*(volatile const bool*)done && (int32_t)(ticks - end) < 0) {
        take_frames();
        wait_for_interrupt();
    }
    return *done;
}

static void send_echo(uint32_t bytes) {
    uint8_t* ip = outgoing.frame + ethernet_bytes;
    memset(ip, 0, ip_bytes + echo_bytes);
    ip[0] = 0x45;
    put16(ip + 2, ip_bytes + echo_bytes + bytes);
    ip[8] = 64;
    ip[9] = protocol_icmp;
    memcpy(ip + 12, my_address, 4);
    memcpy(ip + 16, pinged, 4);
    put16(ip + 10, checksum(ip, ip_bytes));
    uint8_t* echo = ip + ip_bytes;
    echo[0] = echo_request;
    // An identifier: nobody takes it for an old conversation, of the guest before a restart neither.
    put16(echo + 4, (uint32_t)__builtin_ia32_rdtsc() & 0xffff);
    for (uint32_t i = 0; i < bytes; i++)
        echo[echo_bytes + i] = (uint8_t)i;
    put16(echo + 2, checksum(echo, echo_bytes + bytes));
    send(asked_mac, type_ip, ip_bytes + echo_bytes + bytes);
}

static void ping(uint32_t bytes) {
    static const uint8_t nobody[6];
    asked_known = replied = false;
    for (unsigned i = 0; i < tries && !replied; i++) {
        if (!asked_known)
            send_arp(1, nobody, asked_address);
        if (!listen_for(&asked_known))
            continue;
        send_echo(bytes);
        listen_for(&replied);
    }
    if (replied)
        say("reply %u\n", replied_bytes);
    else
        say("no reply, %s\n", asked_known ? "and it is there" : "nobody has the address");
}

// ---- words

static const char* number(const char* text, uint32_t* value) {
    for (*value = 0; *text >= '0' && *text <= '9'; text++)
        *value = *value * 10 + (uint32_t)(*text - '0');
    return text;
}
static const char* address(const char* text, uint8_t out[4]) {
    for (unsigned i = 0; i < 4; i++) {
        uint32_t value;
        text = number(text, &value);
        out[i] = (uint8_t)value;
        if (*text == '.')
            text++;
    }
    return text;
}

static void do_line(const char* line) {
    uint32_t bytes;
    if (memcmp(line, "ping ", 5) != 0)
        fail("no order: %s", line);
    line = address(line + 5, pinged);
    line = number(line + (*line == ' '), &bytes);
    if (*line == ' ')
        address(line + 1, asked_address);
    else
        memcpy(asked_address, pinged, 4);
    if (bytes > frame_bytes - ethernet_bytes - ip_bytes - echo_bytes)
        fail("%u bytes do not fit", bytes);
    ping(bytes);
}

void guest(void) {
    timer_start();
    address(command_line(), my_address);
    virtio_open(&device, virtio_net, feature_mac | feature_mtu);
    virtio_queue(&device, &receive_queue, 0);
    virtio_queue(&device, &send_queue, 1);
    virtio_go(&device);
    for (unsigned i = 0; i < 6; i++)
        my_mac[i] = window_in8(&device.device, i);
    for (unsigned i = 0; i < buffers && i < receive_queue.size; i++)
        offer(&incoming[i]);
    queue_kick(&receive_queue);
    const uint32_t mtu = device.features & feature_mtu
                             ? window_in8(&device.device, 10) | window_in8(&device.device, 11) << 8
                             : 0;
    say("ping: %m %a mtu %u\n", my_mac, my_address, mtu);
    static char line[64];
    for (uint32_t length = 0;;) {
        take_frames();
        if (!(in8(serial_status) & data_ready)) {
            wait_for_interrupt();
            continue;
        }
        const char typed = (char)in8(serial_data);
        if (typed != '\n' && typed != '\r') {
            line[length] = typed;
            length += length < sizeof line - 1;
        } else if (length > 0) {
            line[length] = '\0';
            length = 0;
            do_line(line);
        }
    }
}
