// Keeps KVM's jump labels where they are for as long as the lab runs.
//
// KVM patches the scheduler's code (a static key for preemption notifiers) when the
// first VM comes and when the last one goes, and its own run loop when the first
// vCPU without, or with a disabled, local APIC comes and the last one goes. QEMU 7.2's
// multi-threaded emulation now and then keeps a translation of the intermediate int3
// for ever: then every processor of the lab spins in asm_exc_int3 at __schedule, about
// once in 200 VMs. So one VM of each kind is made before anything else runs and stays.
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <unistd.h>

static int fail(const char* what) {
    perror(what);
    return 1;
}

int main(void) {
    int kvm = open("/dev/kvm", O_RDWR);
    if (kvm < 0)
        return fail("kvm-anchor: /dev/kvm");
    int bare = ioctl(kvm, KVM_CREATE_VM, 0);
    if (bare < 0 || ioctl(bare, KVM_CREATE_VCPU, 0) < 0)
        return fail("kvm-anchor: VM without interrupt controllers");
    int vm = ioctl(kvm, KVM_CREATE_VM, 0);
    if (vm < 0 || ioctl(vm, KVM_CREATE_IRQCHIP, 0) != 0)
        return fail("kvm-anchor: VM with interrupt controllers");
    // A new local APIC is disabled by software; the second one by hardware as well.
    for (int id = 0; id < 2; id++) {
        int vcpu = ioctl(vm, KVM_CREATE_VCPU, id);
        struct kvm_sregs sregs;
        if (vcpu < 0 || ioctl(vcpu, KVM_GET_SREGS, &sregs) != 0)
            return fail("kvm-anchor: vCPU");
        if (id == 1) {
            sregs.apic_base &= ~(1ULL << 11);
            if (ioctl(vcpu, KVM_SET_SREGS, &sregs) != 0)
                return fail("kvm-anchor: APIC base");
        }
    }
    puts("anchored");
    fflush(stdout);
    if (fork() != 0)
        _exit(0);
    setsid();
    for (;;)
        pause();
}
