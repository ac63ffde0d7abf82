#!/usr/bin/env escript
%%! -noinput
%% Erlang's own codec behind a pipe: packets with a length of 4 bytes, one answer each.
%%
%%   0, Term      decode Term, answer with what Erlang encodes for it
%%   1, N:32      make the Nth random term, answer with its encoding
%%   2, Term      answer 1 if Term decodes to the last term made, else 0
%%   3, Term      answer 1 if Erlang refuses to decode Term, else 0

main(_) ->
    Port = open_port({fd, 0, 1}, [binary, {packet, 4}, eof]),
    loop(Port, none).

loop(Port, Made) ->
    receive
        {Port, {data, <<0, Data/binary>>}} ->
            answer(Port, term_to_binary(binary_to_term(Data))),
            loop(Port, Made);
        {Port, {data, <<1, N:32>>}} ->
            rand:seed(exsss, {N, N, N}),
            Term = make(4),
            answer(Port, term_to_binary(Term)),
            loop(Port, Term);
        {Port, {data, <<2, Data/binary>>}} ->
            answer(Port, flag(binary_to_term(Data) =:= Made)),
            loop(Port, Made);
        {Port, {data, <<3, Data/binary>>}} ->
            answer(Port, flag(is_refused(Data))),
            loop(Port, Made);
        {Port, eof} ->
            halt(0)
    end.

answer(Port, Data) -> port_command(Port, Data).

flag(true) -> <<1>>;
flag(false) -> <<0>>.

is_refused(Data) ->
    try binary_to_term(Data) of _ -> false catch error:badarg -> true end.

make(0) -> leaf(rand:uniform(12));
make(Depth) ->
    case rand:uniform(8) of
        1 -> [make(Depth - 1) || _ <- few()];
        2 -> list_to_tuple([make(Depth - 1) || _ <- few()]);
        3 -> maps:from_list([{key(), make(Depth - 1)} || _ <- few()]);
        4 -> [rand:uniform(256) - 1 || _ <- lists:seq(1, rand:uniform(300))];
        5 -> list_to_tuple(lists:seq(1, rand:uniform(300)));
        _ -> leaf(rand:uniform(12))
    end.

few() -> lists:seq(1, rand:uniform(5) - 1).

%% Python holds 1 and 1.0 equal, and true and 1, so keys are neither float nor boolean.
key() ->
    case rand:uniform(4) of
        1 -> rand:uniform(1 bsl 40);
        2 -> rand:bytes(rand:uniform(20));
        3 -> {atom(), rand:uniform(9)};
        4 -> pid()
    end.

leaf(1) -> rand:uniform(600) - 300;
leaf(2) -> near(31);
leaf(3) -> near(63);
leaf(4) -> near(rand:uniform(2100));
leaf(5) -> rand:uniform() * math:pow(10, rand:uniform(600) - 300);
leaf(6) -> -0.0;
leaf(7) -> rand:bytes(rand:uniform(400) - 1);
leaf(8) -> atom();
leaf(9) -> pid();
leaf(10) -> reference();
leaf(11) -> lists:nth(rand:uniform(5), [true, false, undefined, nil, '']);
leaf(12) -> [].

near(Bits) -> (1 - 2 * rand:uniform(2)) * ((1 bsl Bits) + rand:uniform(3) - 2).

atom() ->
    Alphabet = [$a, $Z, $0, $\s, 16#e9, 16#20ac, 16#1f600],
    Name = [lists:nth(rand:uniform(7), Alphabet) || _ <- lists:seq(1, rand:uniform(80))],
    list_to_atom(Name).

pid() ->
    case rand:uniform(2) of
        1 -> self();
        2 ->
            Id = rand:uniform(1 bsl 64) - 1,
            Low = Id band 16#ffffffff,
            High = Id bsr 32,
            binary_to_term(<<131, 88, 119, 8, "node@h.x", Low:32, High:32, 77:32>>)
    end.

reference() ->
    case rand:uniform(2) of
        1 -> make_ref();
        2 -> binary_to_term(<<131, 90, 2:16, 119, 8, "node@h.x", 77:32, 1:32, 2:32>>)
    end.
