<?php
// A page; nothing in it knows of pupgevent.
header("Content-Type: text/plain");
if (preg_match('~^/slow/(\d+)$~', $_SERVER["REQUEST_URI"], $found)) {
    // An answer that takes its time: try it during a restart. A signal would end one sleep() early.
    $end = microtime(true) + min($found[1], 20);
    while (microtime(true) < $end) {
        usleep(10000);
    }
    echo "That took a while\n";
} else {
    printf("Hello from instance %s, pid %d\n", getenv("PUP_CLUSTER_INSTANCE"), getmypid());
}
