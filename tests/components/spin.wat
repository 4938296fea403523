;; Computes for ever.
(component
(core module $m (func (export "spin") (result i32) (loop (br 0)) unreachable))
(core instance $i (instantiate $m))
(func (export "spin") (result (result)) (canon lift (core func $i "spin"))))
