;; Says 32 KiB over and over.
(component
(import "harvest:streams/streams@0.1.0" (instance $streams
    (export "text" (func (param "name" string) (param "text" string)))))
(core module $memory
    (memory (export "memory") 2)
    (data (i32.const 0) "babble")
    (func (export "realloc") (param i32 i32 i32 i32) (result i32) unreachable))
(core instance $mem (instantiate $memory))
(core func $text (canon lower (func $streams "text") (memory $mem "memory")))
(core module $m
    (import "host" "text" (func $text (param i32 i32 i32 i32)))
    (func (export "babble") (result i32)
        (loop
            (call $text (i32.const 0) (i32.const 6) (i32.const 0) (i32.const 32768))
            (br 0))
        unreachable))
(core instance $i (instantiate $m (with "host" (instance (export "text" (func $text))))))
(func (export "babble") (result (result)) (canon lift (core func $i "babble"))))
