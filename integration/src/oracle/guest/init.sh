#!/bin/sh
# The guest's first process: one scenario under the kernel's own IMA. The scenario is in /s, the file system to play
# it on is /dev/vda, and what came of it goes to /dev/vdb as a tar archive, last of all a file that says it is whole.
mount -t devtmpfs dev /dev
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t securityfs security /sys/kernel/security
for module in virtio_pci virtio_blk ext4; do modprobe $module; done
mount -t ext4 /dev/vda /t || poweroff -f
ima=/sys/kernel/security/ima
cd /t
exec 2> /out/errors
[ ! -e /s/pre ] || op run /s/pre > /out/pre.tsv
[ ! -e /s/policy ] || op policy /s/policy > /out/policy.tsv
op run -a /out/audit.tsv -k /s/keys /s/ops > /out/ops.tsv
status=$?
for file in ascii_runtime_measurements binary_runtime_measurements runtime_measurements_count violations; do
	cat $ima/$file > /out/$file
done
op tree > /out/tree
dmesg > /out/log
for bank in /sys/class/tpm/tpm0/pcr-*; do
	[ -d "$bank" ] || continue
	for register in 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23; do
		echo ${bank##*/pcr-} $register $(cat $bank/$register)
	done
done > /out/registers
echo $status > /out/whole
cd /out
tar -c -f /dev/vdb .
sync
poweroff -f
